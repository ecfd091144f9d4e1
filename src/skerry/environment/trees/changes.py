"""Hear that something in a tree changed: inotify(7) on each folder that was looked through, else look now and then."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from typing import Any

LOOK_S = 0.5
"""Where the system tells of no change: how often to look for one."""
READ_BYTES = 64 * 1024
# linux/inotify.h
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _ONLYDIR = 0x40, 0x80, 0x100, 0x200, 0x01000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR


class Changes:
    """Give `cover` to a scan: each folder is covered before it is looked through, so no change falls in between. What
    is ignored is never looked through, and costs no watch."""

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None)
        is_linux = sys.platform.startswith("linux")
        self._number: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if is_linux else -1
        self.hears = self._number >= 0
        """False: the system has no more watches for us, and we look every LOOK_S."""

    def cover(self, folder: int) -> None:
        if self.hears:
            path = f"/proc/self/fd/{folder}".encode()
            added = self._libc.inotify_add_watch(self._number, path, ctypes.c_uint32(_WANTED))
            self.hears = added >= 0

    def wait(self, most_s: float) -> bool:
        """Until something changed, or may have; False after `most_s` in which nothing did."""
        if not self.hears:
            time.sleep(min(LOOK_S, most_s))
            return True
        return bool(select.select([self._number], [], [], most_s)[0])

    def forget(self) -> None:
        """What was heard so far is about to be looked at."""
        try:
            while self.hears and os.read(self._number, READ_BYTES):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
