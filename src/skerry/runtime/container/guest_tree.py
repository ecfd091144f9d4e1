"""Look into and prepare a guest's disk from outside, where every name, link and file may be a trap."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from skerry.errors import Invalid, NoRoom
from skerry.runtime.container.oci import Identity
from skerry.runtime.container.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

ACCOUNTS_BYTES_MAX = 1024 * 1024
IDS_MAX = 65536
GROUPS_MAX = 256
RESERVED_FOLDERS = ("proc", "sys", "dev", ".skerry")
"""Mounted over at every start. Anything else by that name would let a link say where."""

_ONE_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WITHIN = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


class GuestTree:
    """One disk, or the root of a running sandbox; links in it resolve as they do for the guest, never out of it."""

    def __init__(self, disk: Path) -> None:
        self._root_fd = os.open(disk, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> GuestTree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root_fd)

    def reserve_folders(self) -> None:
        """Make sure that what we mount over is a folder at exactly that place."""
        for name in RESERVED_FOLDERS:
            try:
                found = os.stat(name, dir_fd=self._root_fd, follow_symlinks=False)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=self._root_fd)
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=self._root_fd)
                os.mkdir(name, 0o755, dir_fd=self._root_fd)

    def have_file(self, path: str, field: str) -> None:
        """A file at exactly that place for another to be mounted over; an empty one is made, and the folders to it.
        Raises Invalid where a link would lead to some other place, or a folder is in the way."""
        *folders, name = path.strip("/").split("/")
        fd = os.dup(self._root_fd)
        try:
            for folder in folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=fd)
                fd, parent = os.open(folder, _ONE_FOLDER, dir_fd=fd), fd
                os.close(parent)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=fd))
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom("the sandbox's disk is full: not even an empty file can be made", because=path) from None
            say = f"{field}: {path} cannot be made in the sandbox: a part of it is a link, or no folder"
            raise Invalid(say, because=str(error), field=field) from None
        finally:
            os.close(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Invalid(f"{field}: {path} is something else than a file in the sandbox", field=field)

    def takes_file(self, path: str) -> bool:
        """Whether a file can be bound there: it is a file, or is not there and can be made."""
        kind = self._kind(path)
        if kind is not None:
            return stat.S_ISREG(kind)
        parent = posixpath.dirname(path)
        if self.is_folder(parent):
            return True
        try:
            os.stat(parent.lstrip("/"), dir_fd=self._root_fd, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return False  # a link to nowhere, or no folder

    def is_folder(self, path: str) -> bool:
        kind = self._kind(path)
        return kind is not None and stat.S_ISDIR(kind)

    def identity(self, user: str, *, field: str) -> Identity:
        """`user[:group]`, names or numbers, by the guest's own files; a number needs no entry there."""
        wanted, _, wanted_group = user.partition(":")
        accounts = self._entries("/etc/passwd", fields=7)
        account = next((line for line in accounts if line[0] == wanted), None)
        if account is None and wanted.isdigit():
            account = next((line for line in accounts if line[2] == str(int(wanted))), None)
        name = account[0] if account else None
        if account is not None:
            uid, gid, home = _id(account[2], field), _id(account[3], field), account[5] or "/"
        elif wanted.isdigit():
            uid, gid, home = _id(wanted, field), 0, "/"
        elif wanted == "root":
            uid, gid, home, name = 0, 0, "/root", "root"
        else:
            raise Invalid(f"the sandbox has no user {wanted}", field=field)
        groups = self._entries("/etc/group", fields=4)
        if wanted_group:
            gid, more = self._group(groups, wanted_group, field), []
        else:
            more = [int(line[2]) for line in groups if name in line[3].split(",") and line[2].isdigit()]
        extra = sorted({number for number in more if number < IDS_MAX and number != gid})[:GROUPS_MAX]
        return Identity(uid=uid, gid=gid, groups=tuple(extra), home=home, name=name)

    def can_run(self, command: str, *, path_variable: str, workdir: str) -> bool:
        """Whether a main process would find its program: said before the start, since after it is too late to."""
        if "/" in command:
            places = [posixpath.join(workdir, command)]
        else:
            places = [posixpath.join(folder or workdir, command) for folder in path_variable.split(":")]
        kinds = (self._kind(posixpath.join("/", place)) for place in places)
        return any(kind is not None and stat.S_ISREG(kind) and kind & 0o111 for kind in kinds)

    def _group(self, groups: Sequence[Sequence[str]], wanted: str, field: str) -> int:
        for line in groups:
            if line[0] == wanted:
                return _id(line[2], field)
        if wanted.isdigit():
            return _id(wanted, field)
        raise Invalid(f"the sandbox has no group {wanted}", field=field)

    def _kind(self, path: str) -> int | None:
        try:
            fd = openat2(self._root_fd, path, os.O_PATH, 0, _WITHIN)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG):
                return None
            raise
        try:
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def _entries(self, path: str, *, fields: int) -> list[list[str]]:
        """Lines of a file such as /etc/passwd. O_NONBLOCK: it may have been made a pipe."""
        try:
            fd = openat2(self._root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, _WITHIN)
        except OSError:
            return []
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return []
            text = os.read(fd, ACCOUNTS_BYTES_MAX).decode(errors="replace")
        finally:
            os.close(fd)
        lines = (line.split(":") for line in text.splitlines())
        return [line for line in lines if len(line) == fields]


def _id(text: str, field: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < IDS_MAX:
        return int(text)
    raise Invalid(f"user and group ids are 0 to {IDS_MAX - 1} here, not {text[:20]}", field=field)
