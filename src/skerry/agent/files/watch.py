"""Telling a client what changes in a guest's directory, by inotify(7) on the inodes themselves."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator

from skerry.agent.files.openat2 import Fd, openat2
from skerry.agent.files.resolve import Resolver
from skerry.agent.files.speech import speaking
from skerry.agent.files.views import Parts, View, spell
from skerry.errors import Invalid, LimitReached
from skerry.model.file import FileEvent

FOLDERS_MAX = 1024
"""Directories one recursive watch may cover."""
READ_BYTES = 64 * 1024
FOUND_ENTRIES_MAX = 10_000
"""Entries of a new directory that are told one by one; past this it is one overflow event."""

# linux/inotify.h
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR, _ISDIR = 0x01000000, 0x40000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")

_KINDS = (
    (_CREATE, "created"),
    (_MOVED_TO, "renamed"),
    (_MOVED_FROM | _DELETE, "removed"),
    (_MODIFY | _ATTRIB | _CLOSE_WRITE, "modified"),
)
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """`fileno` becomes readable when there is something; `read` then gives it. A move inside the watched tree is two
    events: `removed` with the old path, then `renamed` with the new one."""

    def __init__(self, view: View, parts: Parts, *, recursive: bool) -> None:
        self._parts = parts
        self._recursive = recursive
        self._folders: dict[int, Parts] = {}
        self.ended = False
        """The watched directory itself is gone."""
        self._inotify = Fd(_check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)))
        with Resolver(view) as resolver, speaking(parts), resolver.find(parts, follow=True) as spot:
            spot.status()
            if spot.fd is None or not spot.is_folder():
                raise Invalid(f"{spell(parts)} is not a directory: watch the one it is in", field="path")
            self._top = Fd(os.dup(spot.fd.fileno()))
            self._root = self._add(self._top, parts)
            if recursive and any(True for _ in self._cover(parts, tell=False)):
                words = f"{spell(parts)} has more than {FOLDERS_MAX} directories: watch a part of it"
                raise LimitReached(words, field="recursive")

    def fileno(self) -> int:
        return self._inotify.fileno()

    def close(self) -> None:
        self._inotify.close()

    def read(self) -> list[FileEvent]:
        """What happened since the last call; the same event twice in a row is told once."""
        try:
            data = os.read(self._inotify.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        events: list[FileEvent] = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].split(b"\0", 1)[0])
            at += length
            for event in self._translate(watch, mask, name):
                if not events or event != events[-1]:
                    events.append(event)
        return events

    def _translate(self, watch: int, mask: int, name: str) -> Iterator[FileEvent]:
        if mask & _OVERFLOW:
            yield FileEvent(kind="overflow", path=spell(self._parts))
            if self._recursive:  # directories made meanwhile were missed
                yield from self._cover(self._parts, tell=False)
            return
        folder = self._folders.get(watch)
        if folder is None:
            return
        if mask & _IGNORED:
            del self._folders[watch]
        if not name:
            if watch == self._root and mask & (_DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED) and not self.ended:
                self.ended = True
                yield FileEvent(kind="removed", path=spell(self._parts))
            return
        path = (*folder, name)
        kind = next((kind for bits, kind in _KINDS if mask & bits), None)
        if kind is not None and not (kind == "modified" and self._is_nameless(path)):
            yield FileEvent(kind=kind, path=spell(path))
        if self._recursive and mask & _ISDIR:
            if mask & _MOVED_FROM:
                self._forget(path)
            if mask & (_CREATE | _MOVED_TO):
                yield from self._cover_new(path)

    def _is_nameless(self, path: Parts) -> bool:
        """A file made without a name (O_TMPFILE), as our own uploads are, is told as #INODE, which nobody can open;
        when it gets its name, that is told by itself."""
        if not re.fullmatch(r"#\d+", path[-1]):
            return False
        try:
            openat2(self._top.fileno(), "/".join(path[len(self._parts) :]), os.O_PATH | os.O_NOFOLLOW).close()
        except OSError:
            return True
        return False

    def _cover_new(self, path: Parts) -> Iterator[FileEvent]:
        """Watch a directory that appeared, and tell what was put in it before we could."""
        try:
            inside = "/".join(path[len(self._parts) :])
            with openat2(self._top.fileno(), inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as fd:
                self._add(fd, path)
        except _Full:
            yield FileEvent(kind="overflow", path=spell(path))
            return
        except OSError:
            return  # gone again; its removal is told by itself
        yield from self._cover(path, tell=True)

    def _cover(self, top: Parts, *, tell: bool) -> Iterator[FileEvent]:
        """Watch every directory below `top`, which is watched already."""
        waiting, told = [top], 0
        while waiting:
            folder = waiting.pop()
            inside = "/".join(folder[len(self._parts) :]) or "."
            try:
                with (
                    openat2(self._top.fileno(), inside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as fd,
                    os.scandir(fd.fileno()) as entries,
                ):
                    for entry in entries:
                        path = (*folder, entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            with openat2(fd.fileno(), entry.name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW) as below:
                                self._add(below, path)
                            waiting.append(path)
                        told += tell
                        if told > FOUND_ENTRIES_MAX:
                            raise _Full
                        if tell:
                            yield FileEvent(kind="created", path=spell(path))
            except _Full:
                yield FileEvent(kind="overflow", path=spell(folder))
                return
            except OSError:
                continue  # the guest removed it meanwhile

    def _add(self, folder: Fd, parts: Parts) -> int:
        if len(self._folders) >= FOLDERS_MAX:
            raise _Full
        path = f"/proc/self/fd/{folder.fileno()}".encode()
        watch = _libc.inotify_add_watch(self._inotify.fileno(), path, ctypes.c_uint32(_WANTED | _ONLYDIR))
        if watch < 0 and ctypes.get_errno() == errno.ENOSPC:
            raise _Full
        self._folders[_check(watch)] = parts
        return watch

    def _forget(self, path: Parts) -> None:
        """A directory was moved: what it is called now we learn when it arrives, if it does."""
        for watch, folder in list(self._folders.items()):
            if folder[: len(path)] == path:
                _libc.inotify_rm_watch(self._inotify.fileno(), watch)
                del self._folders[watch]


class _Full(Exception):
    """No further directory can be watched."""


def _check(result: int) -> int:
    if result >= 0:
        return result
    code = ctypes.get_errno()
    if code in (errno.EMFILE, errno.ENOSPC):
        raise LimitReached("no more watches are possible on this machine: raise fs.inotify.max_user_instances")
    raise OSError(code, os.strerror(code))


def disk_of(view: View) -> tuple[int, int] | None:
    """Which disk a view shows, to notice that a restore has put another in its place; None when it is gone."""
    try:
        status = os.stat(view.root)
    except OSError:
        return None
    return status.st_dev, status.st_ino
