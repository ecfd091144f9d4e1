"""The file that holds the pool, as a block device: made once, allocated in full, attached at most once."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from skerry.errors import Failed, NoRoom
from skerry.model.amounts import format_size
from skerry.runtime.container.syscalls import fallocate, ioctl

GIB = 1024**3
SIZE_DEFAULT_MIN_BYTES = 4 * GIB
SIZE_DEFAULT_MAX_BYTES = 256 * GIB
HOST_RESERVE_BYTES = 512 * 1024**2
"""What a new pool leaves free on the disk it is made on."""
BLOCK_BYTES = 4096
"""Of the loop device: direct I/O then works on disks with 512-byte and with 4-KiB sectors."""
LABEL = "skerry"

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_INFO = struct.Struct("=QQQQQ IIII 64s 64s 32s 16x")  # struct loop_info64
_LOOP_MAJOR = 7
_CONTROL = Path("/dev/loop-control")
_ATTACH_TRIES_MAX = 32
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_NOCOW_FL = 0x0080_0000


def default_size_bytes(free_bytes: int) -> int:
    return min(max(free_bytes // 4, SIZE_DEFAULT_MIN_BYTES), SIZE_DEFAULT_MAX_BYTES)


def make_file(file: Path, size_bytes: int | None) -> bool:
    """Make the file with an empty btrfs in it, or let it grow to `size_bytes`; True if it exists in that size now
    but has grown. A crash leaves either nothing under that name or a whole filesystem."""
    if file.exists():
        return _grow(file, size_bytes)
    mkfs = shutil.which("mkfs.btrfs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if mkfs is None:
        raise Failed("mkfs.btrfs is missing: run `apt-get install btrfs-progs`")
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    free_bytes = _free_bytes(file.parent)
    size_bytes = size_bytes or default_size_bytes(free_bytes)
    size_bytes -= size_bytes % BLOCK_BYTES
    try:
        _allocate(fresh, size_bytes, size_bytes)
        # Metadata once, not twice: both copies would lie in this one file on one disk, where what spoils one tends to
        # spoil both, and the second costs each checkpoint a third of its time (1.4 ms against 2.0 ms).
        command = [mkfs, "-q", "-K", "-m", "single", "-d", "single", "-L", LABEL, os.fspath(fresh)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Failed("mkfs.btrfs could not make the pool", because=made.stderr.strip())
        _flush(fresh)
        fresh.rename(file)
        _flush(file.parent)
    finally:
        fresh.unlink(missing_ok=True)
    return False


def _grow(file: Path, size_bytes: int | None) -> bool:
    has_bytes = file.stat().st_size
    wanted_bytes = (size_bytes or 0) // BLOCK_BYTES * BLOCK_BYTES
    if wanted_bytes <= has_bytes:  # a pool never shrinks: that could not be undone by a crash half-way
        return False
    _allocate(file, wanted_bytes, wanted_bytes - has_bytes)
    return True


def _allocate(file: Path, size_bytes: int, more_bytes: int) -> None:
    free_bytes = _free_bytes(file.parent)
    if more_bytes + HOST_RESERVE_BYTES > free_bytes:
        raise NoRoom(
            f"the pool needs {format_size(more_bytes)} below {file.parent} and {format_size(free_bytes)} are free: "
            "free some, or set SKERRY_POOL_SIZE (1GiB or more) or SKERRY_DATA_DIR to a larger disk",
            field="pool_size",
        )
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _no_copy_on_write(fd)
        fallocate(fd, size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(
                f"no room for a pool of {format_size(size_bytes)} in {file.parent}", because=str(error)
            ) from None
        raise Failed(
            f"the disk below {file.parent} cannot allocate a file in advance: set SKERRY_POOL_PATH to a btrfs folder",
            because=str(error),
        ) from None
    finally:
        os.close(fd)


def _no_copy_on_write(fd: int) -> None:
    """On a btrfs host every write would be copied twice, once by each; elsewhere the flag is refused and not needed."""
    flags = bytearray(8)
    try:
        ioctl(fd, _FS_IOC_GETFLAGS, flags)
        flags[:4] = (int.from_bytes(flags[:4], "little") | _FS_NOCOW_FL).to_bytes(4, "little")
        ioctl(fd, _FS_IOC_SETFLAGS, flags)
    except OSError:
        return


def _free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def attached(file: Path) -> Generator[Path, None, None]:
    """The loop device of this file, the one it has if it has one: two devices of one btrfs would destroy it.

    It stays for the length of the block and for as long as it is mounted, then the kernel detaches it."""
    device_fd, device = _find(file) or _configure(file)
    try:
        if os.lseek(device_fd, 0, os.SEEK_END) < file.stat().st_size:
            ioctl(device_fd, _LOOP_SET_CAPACITY)
        yield device
    finally:
        os.close(device_fd)


def _find(file: Path) -> tuple[int, Path] | None:
    own = file.stat()
    for folder in Path("/sys/block").glob("loop*/loop"):
        device = Path("/dev") / folder.parent.name
        try:
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        # Asked through the open device: from here on the kernel does not detach it.
        block = bytearray(_INFO.size)
        try:
            ioctl(fd, _LOOP_GET_STATUS64, block)
            info = _INFO.unpack(block)
            if (info[0], info[1]) == (_encoded(own.st_dev), own.st_ino):
                return fd, device
        except OSError:
            pass  # detached meanwhile
        os.close(fd)
    return None


def _encoded(device: int) -> int:
    """huge_encode_dev() of the kernel, the form in which a loop device names its file's disk."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _configure(file: Path) -> tuple[int, Path]:
    file_fd = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for _ in range(_ATTACH_TRIES_MAX):
            device = _free_device()
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            flags = _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO
            name = os.fsencode(file)[-63:]
            info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"")
            try:
                ioctl(fd, _LOOP_CONFIGURE, bytearray(struct.pack("=II", file_fd, BLOCK_BYTES) + info + bytes(64)))
                return fd, device
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # somebody took that device first
                    raise Failed("could not attach the pool's loop device", because=str(error)) from None
        raise Failed("could not attach the pool's loop device: every free one was taken by others meanwhile")
    finally:
        os.close(file_fd)


def _free_device() -> Path:
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Failed("this kernel has no loop devices: run `modprobe loop`", because=str(error)) from None
    try:
        number = ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    device = Path(f"/dev/loop{number}")
    if not device.exists():  # where nothing fills /dev by itself
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(_LOOP_MAJOR, number))
    return device
