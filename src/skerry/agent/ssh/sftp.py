"""SFTP into a sandbox, for sftp, scp, sshfs and editors: asyncssh speaks it, a `GuestUser`'s thread does it."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import asyncssh
from asyncssh.constants import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE

from skerry.agent.ssh import guest_files
from skerry.agent.ssh.guest_files import Change, absolute
from skerry.agent.ssh.guest_user import GuestUser
from skerry.errors import SkerryError

T = TypeVar("T")

VERSION = 3
"""The one that OpenSSH and everything beside it speaks."""
OPEN_FILES_MAX = 128
"""Of one SFTP session: each is a descriptor of the agent's."""
ENTRIES_AT_ONCE = 128
_NOBODY = 65_534
_UNSHIFTED = 65_536
_UINT32_MAX = 0xFFFF_FFFF

_ACCESS = {
    FXF_READ: os.O_RDONLY,
    FXF_WRITE: os.O_WRONLY,
    FXF_READ | FXF_WRITE: os.O_RDWR,
}
_MORE = {
    FXF_CREAT: os.O_CREAT,
    FXF_TRUNC: os.O_TRUNC,
    FXF_EXCL: os.O_EXCL,
    FXF_APPEND: os.O_APPEND,
}


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A descriptor and the thread that it is good in: one of an earlier start of the sandbox is good in none."""

    user: GuestUser
    fd: int


class GuestSftp(asyncssh.SFTPServer):
    """`ready` is awaited before each request: it notes the traffic and wakes the sandbox. `enter` makes a user anew
    when the sandbox was started again meanwhile; the last one is closed at the end."""

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        user: GuestUser,
        *,
        ready: Callable[[], Awaitable[None]],
        enter: Callable[[], Awaitable[GuestUser]],
    ) -> None:
        super().__init__(chan)  # pyright: ignore[reportUnknownMemberType]
        self._chan_bytes = chan
        self._user = user
        self._ready = ready
        self._enter = enter
        self._home = os.fsencode(user.ids.who.home)

    async def _do(self, work: Callable[[int], T]) -> T:
        user = await self._user_now()
        with _speaking():
            return await user.do(work)

    async def _do_with(self, file_obj: object, work: Callable[[int], T]) -> T:
        file = _file(file_obj)
        await self._user_now()
        with _speaking():
            return await file.user.do(lambda _: work(file.fd))

    async def _user_now(self) -> GuestUser:
        with _speaking():
            await self._ready()
            if self._user.is_closed:
                self._user = await self._enter()
            return self._user

    def _at(self, path: bytes) -> bytes:
        return absolute(path, self._home)

    # Files

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> OpenFile:
        user = await self._user_now()
        if user.open_count >= OPEN_FILES_MAX:
            raise OSError(errno.EMFILE, "too many files are open")
        flags = _ACCESS.get(pflags & (FXF_READ | FXF_WRITE), os.O_RDONLY)
        flags |= sum(ours for theirs, ours in _MORE.items() if pflags & theirs)
        mode = guest_files.NEW_FILE_MODE if attrs.permissions is None else attrs.permissions & 0o777
        at = self._at(path)
        with _speaking():
            return OpenFile(user, await user.open(lambda root: guest_files.open_file(root, at, flags, mode)))

    async def close(self, file_obj: object) -> None:
        file = _file(file_obj)
        file.user.release(file.fd)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return await self._do_with(file_obj, lambda fd: guest_files.read(fd, offset, size))

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        return await self._do_with(file_obj, lambda fd: guest_files.write(fd, offset, data))

    async def fsync(self, file_obj: object) -> None:
        await self._do_with(file_obj, lambda fd: os.fsync(fd))

    # Attributes

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        at = self._at(path)
        return self._attrs(await self._do(lambda root: guest_files.status(root, at, follow=False)))

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        at = self._at(path)
        return self._attrs(await self._do(lambda root: guest_files.status(root, at, follow=True)))

    async def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return self._attrs(await self._do_with(file_obj, lambda fd: os.fstat(fd)))

    async def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        at, wanted = self._at(path), self._change(attrs)
        await self._do(lambda root: guest_files.change(root, at, wanted, follow=True))

    async def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        at, wanted = self._at(path), self._change(attrs)
        await self._do(lambda root: guest_files.change(root, at, wanted, follow=False))

    async def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        wanted = self._change(attrs)
        await self._do_with(file_obj, lambda fd: guest_files.change_open(fd, wanted))

    async def statvfs(self, path: bytes) -> os.statvfs_result:
        at = self._at(path)
        return await self._do(lambda root: guest_files.status_of_fs(root, at))

    async def fstatvfs(self, file_obj: object) -> os.statvfs_result:
        return await self._do_with(file_obj, lambda fd: os.fstatvfs(fd))

    def _attrs(self, status: os.stat_result) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(
            size=status.st_size,
            uid=self._inside(status.st_uid),
            gid=self._inside(status.st_gid),
            permissions=status.st_mode,
            atime=_time(status.st_atime),
            mtime=_time(status.st_mtime),
            nlink=status.st_nlink,
        )

    def _change(self, attrs: asyncssh.SFTPAttrs) -> Change:
        both = attrs.atime is not None and attrs.mtime is not None
        return Change(
            size=attrs.size,
            uid=self._outside(attrs.uid),
            gid=self._outside(attrs.gid),
            mode=None if attrs.permissions is None else attrs.permissions & 0o7777,
            times_s=(attrs.atime or 0, attrs.mtime or 0) if both else None,
        )

    def _inside(self, number: int) -> int:
        inside = number - self._user.ids.base
        return inside if 0 <= inside < _UNSHIFTED else _NOBODY

    def _outside(self, number: int | None) -> int | None:
        if number is None:
            return None
        if not 0 <= number < _UNSHIFTED:
            raise OSError(errno.EINVAL, "ids are 0 to 65535 here")
        return number + self._user.ids.base

    # Folders and names

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        at = self._at(path)
        # Not read as a whole: a folder may hold millions. The iterator is used in the user's thread alone.
        found = await self._do(lambda root: guest_files.entries(root, at))
        while some := await self._do(lambda _: list(islice(found, ENTRIES_AT_ONCE))):
            for name, status in some:
                yield asyncssh.SFTPName(name, attrs=self._attrs(status))

    async def realpath(self, path: bytes) -> bytes:
        at = self._at(path)
        return await self._do(lambda root: guest_files.real_path(root, at))

    async def readlink(self, path: bytes) -> bytes:
        at = self._at(path)
        return await self._do(lambda root: guest_files.read_link(root, at))

    async def remove(self, path: bytes) -> None:
        at = self._at(path)
        await self._do(lambda root: guest_files.remove(root, at))

    async def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        at = self._at(path)
        mode = guest_files.NEW_FOLDER_MODE if attrs.permissions is None else attrs.permissions & 0o777
        await self._do(lambda root: guest_files.make_folder(root, at, mode))

    async def rmdir(self, path: bytes) -> None:
        at = self._at(path)
        await self._do(lambda root: guest_files.remove_folder(root, at))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._at(oldpath), self._at(newpath)
        await self._do(lambda root: guest_files.rename(root, old, new, replace=False))

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._at(oldpath), self._at(newpath)
        await self._do(lambda root: guest_files.rename(root, old, new, replace=True))

    async def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        new = self._at(newpath)
        await self._do(lambda root: guest_files.symlink(root, oldpath, new))

    async def link(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._at(oldpath), self._at(newpath)
        await self._do(lambda root: guest_files.link(root, old, new))

    def format_user(self, uid: int | None) -> str:
        return "" if uid is None else str(uid)  # the host's own names are none of the sandbox's

    def format_group(self, gid: int | None) -> str:
        return "" if gid is None else str(gid)

    async def exit(self) -> None:
        self._user.close()
        with suppress(OSError, asyncssh.Error):
            self._chan_bytes.exit(0)  # scp takes a session that ends without a word for one that broke off


@contextmanager
def _speaking() -> Generator[None]:
    try:
        yield
    except SkerryError as error:
        raise asyncssh.SFTPFailure(error.say) from None


def _file(file_obj: object) -> OpenFile:
    assert isinstance(file_obj, OpenFile), "what `open` returned"
    return file_obj


def _time(seconds: float) -> int:
    return min(max(int(seconds), 0), _UINT32_MAX)  # the guest may set any 64-bit time
