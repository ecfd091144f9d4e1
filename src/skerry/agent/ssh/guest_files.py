"""What SFTP asks of a sandbox's files, as functions for a `GuestUser`'s thread: names resolve as they do inside.

Every function takes the guest's root and finds its way by openat2(2) below it. A file is pinned and looked at before it
is opened for use, since opening a pipe or a device already does something.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from skerry.agent.ssh.guest_user import within

CHUNK_BYTES_MAX = 256 * 1024
NEW_FILE_MODE, NEW_FOLDER_MODE = 0o666, 0o777
RACES_MAX = 3
"""Times a file may appear or vanish between the look and the opening."""


@dataclass(frozen=True)
class Change:
    """Attributes to set; None leaves one as it is. Ids are the host's."""

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    times_s: tuple[int, int] | None = None


def absolute(path: bytes, home: bytes) -> bytes:
    """Relative ones begin at home, as in a login."""
    return posixpath.join(home, path) if path else home


@contextmanager
def pinned(root: int, path: bytes, *, follow: bool = True) -> Generator[int]:
    fd = within(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def placed(root: int, path: bytes) -> Generator[tuple[int, bytes]]:
    """The folder of `path`, and the name in it."""
    parent, name = posixpath.split(path.rstrip(b"/"))
    if name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, "name something in a folder")
    fd = within(root, parent or b"/", os.O_PATH | os.O_DIRECTORY)
    try:
        yield fd, name
    finally:
        os.close(fd)


def status(root: int, path: bytes, *, follow: bool) -> os.stat_result:
    with pinned(root, path, follow=follow) as fd:
        return os.fstat(fd)


def status_of_fs(root: int, path: bytes) -> os.statvfs_result:
    with pinned(root, path) as fd:
        return os.statvfs(_again(fd))


def open_file(root: int, path: bytes, flags: int, mode: int) -> int:
    """A regular file, made if `flags` say so. Raises OSError."""
    for _ in range(RACES_MAX):
        try:
            with pinned(root, path) as fd:
                if flags & os.O_CREAT and flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, "it exists already")
                _refuse_odd(os.fstat(fd).st_mode)
                return os.open(_again(fd), (flags & ~os.O_CREAT) | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        try:
            return within(root, path, flags | os.O_EXCL | os.O_NOCTTY, mode)
        except FileExistsError:
            if flags & os.O_EXCL or _is_link(root, path):
                raise
    raise OSError(errno.EAGAIN, "it is being made and removed all the time")


def read(fd: int, offset: int, count: int) -> bytes:
    return os.pread(fd, min(count, CHUNK_BYTES_MAX), offset)


def write(fd: int, offset: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
    return len(data)


def change(root: int, path: bytes, wanted: Change, *, follow: bool) -> None:
    with pinned(root, path, follow=follow) as fd:
        change_open(fd, wanted)


def change_open(fd: int, wanted: Change) -> None:
    """By the descriptor's own name: no other name is looked up, so none can be swapped."""
    path = _again(fd)
    if wanted.size is not None:
        _refuse_odd(os.fstat(fd).st_mode)
        os.truncate(path, wanted.size)
    if wanted.uid is not None and wanted.gid is not None:
        os.chown(path, wanted.uid, wanted.gid)
    if wanted.mode is not None:
        os.chmod(path, wanted.mode)
    if wanted.times_s is not None:
        os.utime(path, wanted.times_s)


def entries(root: int, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Of a folder, with `.` and `..`; what goes away meanwhile is left out."""
    folder = within(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield b".", os.fstat(folder)
        yield b"..", status(root, posixpath.join(path, b".."), follow=True)
        with os.scandir(folder) as found:
            for entry in found:
                try:
                    yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                except OSError:
                    continue
    finally:
        os.close(folder)


def real_path(root: int, path: bytes) -> bytes:
    """Where a path leads; its last name need not exist."""
    try:
        with pinned(root, path) as fd:
            return _name_of(fd)
    except FileNotFoundError:
        with placed(root, path) as (fd, name):
            return posixpath.join(_name_of(fd), name)


def read_link(root: int, path: bytes) -> bytes:
    with pinned(root, path, follow=False) as fd:
        return os.fsencode(os.readlink("", dir_fd=fd))


def remove(root: int, path: bytes) -> None:
    with placed(root, path) as (fd, name):
        os.unlink(name, dir_fd=fd)


def make_folder(root: int, path: bytes, mode: int) -> None:
    with placed(root, path) as (fd, name):
        os.mkdir(name, mode, dir_fd=fd)


def remove_folder(root: int, path: bytes) -> None:
    with placed(root, path) as (fd, name):
        os.rmdir(name, dir_fd=fd)


def rename(root: int, old: bytes, new: bytes, *, replace: bool) -> None:
    with placed(root, old) as (old_fd, old_name), placed(root, new) as (new_fd, new_name):
        if not replace and _exists(new_fd, new_name):
            raise FileExistsError(errno.EEXIST, "it exists already")
        os.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)


def symlink(root: int, text: bytes, path: bytes) -> None:
    with placed(root, path) as (fd, name):
        os.symlink(text, name, dir_fd=fd)


def link(root: int, old: bytes, new: bytes) -> None:
    with placed(root, old) as (old_fd, old_name), placed(root, new) as (new_fd, new_name):
        os.link(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd, follow_symlinks=False)


def _again(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _name_of(fd: int) -> bytes:
    """As the guest sees it, since the guest's root is the root of its mounts."""
    return os.fsencode(os.readlink(_again(fd)))


def _refuse_odd(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise PermissionError(errno.EACCES, "it is a pipe, socket or device")


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_link(root: int, path: bytes) -> bool:
    """A link to nowhere: making its target is left to who made the link."""
    try:
        return stat.S_ISLNK(status(root, path, follow=False).st_mode)
    except FileNotFoundError:
        return False
