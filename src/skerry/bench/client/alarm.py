"""Wake an event loop at a moment to some ten microseconds: libuv's own timers know whole milliseconds only.

A Linux timerfd (timerfd_create(2)) is one more file to wait for, so it costs nothing while it waits.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """One moment at a time, on the clock of time.monotonic()."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Raises OSError."""
        self._loop = loop
        self._ring = ring
        self._fd = _libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._rang)

    def set(self, at_s: float) -> None:
        """A moment that has passed rings at once."""
        ns = max(1, round(at_s * 1e9))
        spec = _Spec(0, 0, ns // 1_000_000_000, ns % 1_000_000_000)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _rang(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._ring()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
