"""Opening names in hostile trees: openat2(2), which Python lacks, and descriptors that cannot be forgotten open."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import lru_cache
from types import TracebackType

SYS_OPENAT2 = 437  # the same number on every architecture

# linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
"""Below the given folder, through real folders of the same mount only. A symlink anywhere gives ELOOP."""
AGAIN_MAX = 16
"""Times a lookup is repeated that the kernel could not finish safely because something was renamed meanwhile."""


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t]


@lru_cache(maxsize=64)
def _how(flags: int, mode: int, resolve: int) -> _OpenHow:
    """The kernel only reads it, so all threads may share one."""
    return _OpenHow(flags | os.O_CLOEXEC, mode, resolve)


class Fd:
    """An open descriptor with one owner; closed at the latest when the owner forgets it."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def openat2(folder: int, name: str, flags: int, *, mode: int = 0, resolve: int = PLAIN) -> Fd:
    """openat2(2), relative to the descriptor `folder`. Raises OSError; EAGAIN only after AGAIN_MAX tries."""
    path = os.fsencode(name)
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a name cannot hold NUL")
    how = _how(flags, mode, resolve)
    code = 0
    for _ in range(AGAIN_MAX):
        number = _syscall(SYS_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if number >= 0:
            return Fd(number)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code))


def open_folder(folder: int, path: str = ".") -> Fd:
    """A folder to list, by a plain path below `folder`."""
    return openat2(folder, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def reopen(pinned: int, flags: int) -> Fd:
    """The very file that an O_PATH descriptor pins, opened for use: no name is looked up, so none can be swapped."""
    return Fd(os.open(f"/proc/self/fd/{pinned}", flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))


def open_regular(folder: int, name: str) -> Fd | None:
    """`name` in `folder` for reading; None if it is not a regular file. Pinned and looked at before it is opened,
    for opening a device or a pipe already does something."""
    with openat2(folder, name, os.O_PATH | os.O_NOFOLLOW) as pinned:
        if not stat.S_ISREG(os.fstat(pinned.fileno()).st_mode):
            return None
        return reopen(pinned.fileno(), os.O_RDONLY)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Every byte or an OSError; write(2) may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_at_most(fd: int, bytes_max: int) -> bytes:
    """Up to that many bytes from where the descriptor stands; fewer only at the end."""
    data = os.read(fd, bytes_max)
    if len(data) == bytes_max or not data:
        return data
    pieces = [data]
    left = bytes_max - len(data)
    while left and (data := os.read(fd, left)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)
