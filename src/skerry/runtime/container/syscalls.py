"""Kernel calls that Python does not have: mounts, idmapped clones, openat2, exchange of two names, exit by pidfd."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)  # releases the GIL for the length of each call

CLONE_NEWNS = 0x0002_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x0010_0000
_RENAME_EXCHANGE = 2
_PR_SET_CHILD_SUBREAPER = 36
_SYS_OPENAT2 = 437  # one number on every architecture; the C library has no name for it
_OPENAT2_TRIES_MAX = 16
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_PIDFD_INFO_EXIT = 1 << 3


def _check(result: int, *paths: Path | str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        names: list[str | None] = [os.fspath(path) for path in paths]
        first, second = (*names, None, None)[:2]
        raise OSError(code, os.strerror(code), first, None, second)
    return result


def unshare_mount_namespace() -> None:
    """Give this process its own mount namespace that sees the host's later mounts but shows it none of ours:
    unshare(2), mount_namespaces(7). Only the calling thread moves, so call it before there are others."""
    _check(_LIBC.unshare(CLONE_NEWNS))
    mount(None, Path("/"), None, MS_REC | MS_SLAVE)


def set_network_namespace(namespace: Path) -> None:
    """Move the calling thread, and only it, into a network namespace: setns(2)."""
    with namespace.open("rb") as file:
        _check(_LIBC.setns(file.fileno(), CLONE_NEWNET), namespace)


def mount(source: Path | str | None, target: Path, kind: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = _LIBC.mount(
        os.fsencode(source) if source is not None else None,
        os.fsencode(target),
        kind.encode() if kind is not None else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, source if source is not None else "none", target)


def mount_in_memory(target: Path, options: str) -> None:
    """A tmpfs, not swapped out where the kernel can promise that (Linux 6.4)."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    try:
        mount("tmpfs", target, "tmpfs", flags, f"{options},noswap")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount("tmpfs", target, "tmpfs", flags, options)


def umount(target: Path, *, lazy: bool = False) -> bool:
    """umount2(2), never through a symlink; False when nothing was mounted there."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if _LIBC.umount2(os.fsencode(target), flags) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
        return False
    _check(-1, target)
    return False


def bind_file(source: Path | str, target: Path) -> None:
    """Show the file `source` (a namespace in /proc, say) at `target`, which is made when it is missing."""
    os.close(os.open(target, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    mount(source, target, None, MS_BIND)


def idmapped_clone(
    source: Path, target: Path, user_namespace_fd: int, *, readonly: bool = False, nosuid: bool = True
) -> None:
    """Mount `source` at `target` with its ids shifted as the user namespace maps them, devices dead:
    open_tree(2), mount_setattr(2), move_mount(2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _check(_LIBC.open_tree(_AT_FDCWD, os.fsencode(source), flags), source)
    try:
        attributes = _MOUNT_ATTR_IDMAP | _MOUNT_ATTR_NODEV
        attributes |= _MOUNT_ATTR_RDONLY if readonly else 0
        attributes |= _MOUNT_ATTR_NOSUID if nosuid else 0
        block = struct.pack("=QQQQ", attributes, 0, 0, user_namespace_fd)
        size = ctypes.c_size_t(len(block))
        _check(_LIBC.mount_setattr(tree, b"", _AT_EMPTY_PATH, block, size), source)
        move = _LIBC.move_mount(tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        _check(move, source, target)
    finally:
        os.close(tree)


def openat2(directory_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): open below a directory with rules for how the name may resolve; always close-on-exec.

    The kernel answers EAGAIN when a rename elsewhere raced with the walk; that is tried again a few times."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    number, size, name = ctypes.c_long(_SYS_OPENAT2), ctypes.c_size_t(len(how)), os.fsencode(path)
    result = _LIBC.syscall(number, directory_fd, name, how, size)
    tries = 1
    while result < 0 and ctypes.get_errno() == errno.EAGAIN and tries < _OPENAT2_TRIES_MAX:
        result = _LIBC.syscall(number, directory_fd, name, how, size)
        tries += 1
    return _check(result, os.fsdecode(path))


def file_system_of(path: Path) -> int:
    """Its kind, by the number in statfs(2)."""
    block = ctypes.create_string_buffer(256)
    _check(_LIBC.statfs(os.fsencode(path), block), path)
    return struct.unpack_from("=Q", block)[0]


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step: renameat2(2) with RENAME_EXCHANGE."""
    result = _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    _check(result, one, other)


def fallocate(fd: int, length_bytes: int) -> None:
    """fallocate(2): fails where the disk cannot, in place of writing zeros for minutes as posix_fallocate(3) does."""
    _check(_LIBC.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(length_bytes)))


def ioctl(fd: int, number: int, block: bytearray | None = None) -> int:
    """ioctl(2). Unlike fcntl.ioctl it lets other threads run meanwhile even when the block is a whole page."""
    argument = (ctypes.c_char * len(block)).from_buffer(block) if block is not None else None
    return _check(_LIBC.ioctl(fd, ctypes.c_ulong(number), argument))


def set_child_subreaper() -> None:
    """Orphans below this process become its children: prctl(2), PR_SET_CHILD_SUBREAPER."""
    _check(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0))


def pidfd_exit_code(pidfd: int) -> int | None:
    """How a process ended that somebody else has already reaped: 0..255, or 128 + n for signal n.

    PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15; None on an older kernel, or when it was not reaped yet.
    The pidfd must have been opened before the end."""
    block = bytearray(struct.pack("=Q56x", _PIDFD_INFO_EXIT))
    try:
        ioctl(pidfd, _PIDFD_GET_INFO, block)
    except OSError:
        return None
    mask, status = struct.unpack("=Q52xi", block)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
