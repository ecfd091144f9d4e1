"""The few btrfs ioctls that disks need, called directly: the `btrfs` command costs more than the work itself.

Numbers and layouts are those of linux/btrfs.h. Everything here blocks; `pool.py` decides what goes to a thread.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from skerry.runtime.container.syscalls import ioctl

_MAGIC = 0x94
_WRITE, _READ = 1, 2


def _number(direction: int, command: int, size: int) -> int:
    return direction << 30 | size << 16 | _MAGIC << 8 | command


_ARGS_BYTES = 4096  # btrfs_ioctl_vol_args and most others fill a page
_RESIZE = _number(_WRITE, 3, _ARGS_BYTES)
_SYNC = _number(0, 8, 0)
_SUBVOLUME_CREATE = _number(_WRITE, 14, _ARGS_BYTES)
_SUBVOLUME_DELETE = _number(_WRITE, 15, _ARGS_BYTES)
_INODE_LOOKUP = _number(_READ | _WRITE, 18, _ARGS_BYTES)
_SNAPSHOT = _number(_WRITE, 23, _ARGS_BYTES)
_GET_FLAGS = _number(_READ, 25, 8)
_SET_FLAGS = _number(_WRITE, 26, 8)
_FILESYSTEM_INFO = _number(_READ, 31, 1024)
_QUOTA = _number(_READ | _WRITE, 40, 16)
_QGROUP_CREATE = _number(_WRITE, 42, 16)
_QGROUP_LIMIT = _number(_READ, 43, 48)
_CHILDREN = _number(_READ | _WRITE, 61, _ARGS_BYTES)

_READONLY = 1 << 1
_QUOTA_ENABLE, _QUOTA_ENABLE_SIMPLE = 1, 4
_LIMIT_REFERENCED = 1
_NO_LIMIT = 2**64 - 1
_ROOT_INODE = 256  # of every subvolume
_NEST_DEPTH_MAX = 64
SYSFS = Path("/sys/fs/btrfs")

QuotaKind = Literal["simple", "full"]


@contextmanager
def _folder(path: Path) -> Generator[int, None, None]:
    folder_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield folder_fd
    finally:
        os.close(folder_fd)


def subvolume_create(path: Path) -> None:
    with _folder(path.parent) as parent:
        ioctl(parent, _SUBVOLUME_CREATE, bytearray(struct.pack("=q4088s", 0, os.fsencode(path.name))))


def snapshot(source: Path, target: Path, *, readonly: bool) -> None:
    """`target` appears whole and on stable storage, or not at all. Dirty data of `source` is written out first."""
    with _folder(source) as origin, _folder(target.parent) as parent:
        flags = _READONLY if readonly else 0
        block = struct.pack("=qQQ32x4040s", origin, 0, flags, os.fsencode(target.name))
        ioctl(parent, _SNAPSHOT, bytearray(block))


def is_subvolume(path: Path) -> bool:
    """Whether this is the top of a subvolume on btrfs."""
    try:
        with _folder(path) as folder_fd:
            return os.fstat(folder_fd).st_ino == _ROOT_INODE and _is_btrfs(folder_fd)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def is_btrfs(path: Path) -> bool:
    with _folder(path) as folder_fd:
        return _is_btrfs(folder_fd)


def _is_btrfs(folder_fd: int) -> bool:
    try:
        _filesystem_id(folder_fd)
    except OSError:
        return False
    return True


def _filesystem_id(folder_fd: int) -> str:
    block = bytearray(1024)
    ioctl(folder_fd, _FILESYSTEM_INFO, block)
    return str(uuid.UUID(bytes=bytes(block[16:32])))


def _subvolume_id(folder_fd: int) -> int:
    block = bytearray(struct.pack("=QQ4080x", 0, _ROOT_INODE))
    ioctl(folder_fd, _INODE_LOOKUP, block)
    return struct.unpack_from("=Q", block)[0]


def subvolume_id(path: Path) -> int:
    with _folder(path) as folder_fd:
        return _subvolume_id(folder_fd)


def set_readonly(path: Path, readonly: bool) -> None:
    with _folder(path) as folder_fd:
        block = bytearray(8)
        ioctl(folder_fd, _GET_FLAGS, block)
        flags = int.from_bytes(block, sys.byteorder)
        wanted = flags | _READONLY if readonly else flags & ~_READONLY
        if wanted != flags:
            ioctl(folder_fd, _SET_FLAGS, bytearray(wanted.to_bytes(8, sys.byteorder)))


def subvolume_delete(path: Path, *, depth: int = 0) -> None:
    """Gone when it returns, also when it is read-only, holds immutable files, or has subvolumes inside; the kernel
    frees the space later by itself. A path that does not exist is fine."""
    try:
        _destroy(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or depth >= _NEST_DEPTH_MAX:
            raise
        set_readonly(path, readonly=False)
        for child in _children(path):
            subvolume_delete(child, depth=depth + 1)
        _destroy(path)


def _destroy(path: Path) -> None:
    with _folder(path.parent) as parent:
        ioctl(parent, _SUBVOLUME_DELETE, bytearray(struct.pack("=q4088s", 0, os.fsencode(path.name))))


def _children(path: Path) -> list[Path]:
    """Subvolumes directly inside one. The kernel names the folders that hold them, so no tree is walked."""
    found: list[Path] = []
    with _folder(path) as top:
        own_id = _subvolume_id(top)
        folders: set[int] = set()
        start = 0
        while True:
            block = bytearray(struct.pack("=Q4088x", start))
            more = False
            try:
                ioctl(top, _CHILDREN, block)
            except OSError as error:
                if error.errno != errno.EOVERFLOW:  # the page is full: there are more
                    raise
                more = True
            count = block[8 + 255 * 16]
            pairs = list(struct.iter_unpack("=QQ", block[8 : 8 + count * 16]))
            folders.update(folder for _, folder in pairs)
            if not more or not pairs:
                break
            start = pairs[-1][0] + 1
        for folder in folders:
            block = bytearray(struct.pack("=QQ4080x", own_id, folder))
            ioctl(top, _INODE_LOOKUP, block)
            inside = path / os.fsdecode(bytes(block[16:]).split(b"\0", 1)[0])
            with os.scandir(inside) as entries:
                # stat, since a folder's listing gives a subvolume's number in place of its inode
                tops = [e for e in entries if e.is_dir(follow_symlinks=False)]
                found += [Path(e.path) for e in tops if e.stat(follow_symlinks=False).st_ino == _ROOT_INODE]
    return found


def sync(path: Path) -> None:
    """Every write on this filesystem so far is on stable storage when it returns."""
    with _folder(path) as folder_fd:
        ioctl(folder_fd, _SYNC)


def resize_to_device(path: Path) -> None:
    """Use all of a device that has grown."""
    with _folder(path) as folder_fd:
        ioctl(folder_fd, _RESIZE, bytearray(struct.pack("=q4088s", 0, b"max")))


def enable_quota(path: Path) -> QuotaKind:
    """Simple quotas (Linux 6.7), which charge each extent to the subvolume that wrote it and cost next to nothing;
    full ones on an older kernel. A filesystem that has quotas already keeps the kind it has."""
    with _folder(path) as folder_fd:
        for command in (_QUOTA_ENABLE_SIMPLE, _QUOTA_ENABLE):
            try:
                ioctl(folder_fd, _QUOTA, bytearray(struct.pack("=QQ", command, 0)))
                break
            except OSError as error:
                if command == _QUOTA_ENABLE or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY):
                    raise
        mode = SYSFS / _filesystem_id(folder_fd) / "qgroups/mode"
        return "simple" if mode.exists() and mode.read_text().strip() == "squota" else "full"


def set_limit(path: Path, limit_bytes: int | None) -> None:
    """What may be charged to this subvolume; None lifts the limit. Writing past it fails with EDQUOT."""
    limit = _NO_LIMIT if limit_bytes is None else limit_bytes
    # Asked through the folder above: through a subvolume that is full even lifting its limit fails with EDQUOT.
    with _folder(path.parent) as parent:
        block = struct.pack("=QQQQQQ", subvolume_id(path), _LIMIT_REFERENCED, limit, 0, 0, 0)
        ioctl(parent, _QGROUP_LIMIT, bytearray(block))


def usage_bytes(path: Path) -> int:
    """What is charged to this subvolume, as of some seconds ago: the kernel counts when it writes out."""
    with _folder(path) as folder_fd:
        folder = SYSFS / _filesystem_id(folder_fd) / "qgroups" / f"0_{_subvolume_id(folder_fd)}"
    try:
        return int((folder / "referenced").read_text())
    except FileNotFoundError:
        return 0


def drop_empty_qgroups(path: Path, keep: set[int]) -> int:
    """Forget the accounts of deleted subvolumes, which kernels before 6.12 leave behind; `keep` are subvolume ids."""
    dropped = 0
    with _folder(path) as folder_fd:
        accounts = SYSFS / _filesystem_id(folder_fd) / "qgroups"
        for account in list(accounts.glob("0_*")):
            number = int(account.name.removeprefix("0_"))
            if number < _ROOT_INODE or number in keep:
                continue
            try:
                if int((account / "referenced").read_text()) > 0:
                    continue
                ioctl(folder_fd, _QGROUP_CREATE, bytearray(struct.pack("=QQ", 0, number)))
                dropped += 1
            except OSError:
                continue  # still in use: the cleaner has not finished with it; or it has, and newer kernels forget too
    return dropped
