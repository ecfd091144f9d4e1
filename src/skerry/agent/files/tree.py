"""What the files API does to a guest's tree: look, list, make, rename, remove; every step through a held descriptor."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections import deque
from datetime import UTC, datetime

from skerry.agent.files.openat2 import Fd, open_folder, reopen
from skerry.agent.files.resolve import Resolver, Spot
from skerry.agent.files.speech import speaking
from skerry.agent.files.views import Parts, View, readable, spell
from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, NotFound
from skerry.model.file import FileInfo, FileKind, FileList

LIST_DEPTH_MAX = 32
LIST_ENTRIES_MAX = 10_000
REMOVE_DEPTH_MAX = 64
"""Folders held open at one time while a tree is removed; what lies deeper is first moved up."""
REMOVE_PASSES_MAX = 8
"""Times a folder is emptied again when the guest goes on filling it."""
REMOVE_MOVES_MAX = 100_000
"""Folders moved up in all: enough for a chain six million deep."""
_YEAR_9999_S = 253_402_300_799


def file_info(parts: Parts, status: os.stat_result, target: str | None = None) -> FileInfo:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        kind = FileKind.FILE
    elif stat.S_ISDIR(mode):
        kind = FileKind.DIRECTORY
    else:
        kind = FileKind.SYMLINK if stat.S_ISLNK(mode) else FileKind.OTHER
    modified_s = min(max(status.st_mtime, 0.0), _YEAR_9999_S)  # the guest may set any 64-bit time
    return FileInfo(
        path=spell(parts),
        name=readable(parts[-1]) if parts else "/",
        kind=kind,
        size_bytes=status.st_size,
        mode=f"{stat.S_IMODE(mode):04o}",
        uid=status.st_uid,
        gid=status.st_gid,
        modified_at=datetime.fromtimestamp(modified_s, UTC),
        target=None if target is None else readable(target),
    )


class Tree:
    """The files of one view, for one request; not for two threads at a time."""

    def __init__(self, view: View) -> None:
        self.resolver = Resolver(view)

    def close(self) -> None:
        self.resolver.close()

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stat(self, parts: Parts, *, follow: bool = False) -> FileInfo:
        with self.resolver.find(parts, follow=follow) as spot, speaking(parts):
            return self.info(spot, parts)

    def info(self, spot: Spot, shown: Parts) -> FileInfo:
        status = spot.status()
        target = None
        if spot.fd is not None and stat.S_ISLNK(status.st_mode):
            target = os.readlink("", dir_fd=spot.fd.fileno())
        return file_info(shown, status, target)

    def open_file(self, parts: Parts) -> tuple[Fd, os.stat_result]:
        """A regular file for reading, symlinks followed as in the guest."""
        with self.resolver.find(parts, follow=True) as spot, speaking(parts):
            mode = spot.status().st_mode
            if stat.S_ISDIR(mode):
                raise Invalid(f"{spell(parts)} is a directory; list it, or get it as an archive", field="path")
            if spot.fd is None or not stat.S_ISREG(mode):
                raise Invalid(f"{spell(parts)} is a pipe, socket or device; only files can be read", field="path")
            fd = reopen(spot.fd.fileno(), os.O_RDONLY)
            return fd, os.fstat(fd.fileno())

    def list(self, parts: Parts, depth: int) -> FileList:
        """Entries below a directory, nearest first when they are too many, sorted by path."""
        found: list[tuple[Parts, FileInfo]] = []
        waiting: deque[tuple[Parts, int]] = deque([(parts, 1)])
        truncated = False
        while waiting and not truncated:
            folder, level = waiting.popleft()
            try:
                below, truncated = self._list_one(parts if level == 1 else folder, level == 1, found)
            except NotFound:
                if level == 1:
                    raise
                continue  # it went away meanwhile
            if level < depth:
                waiting.extend((child, level + 1) for child in below)
        found.sort(key=lambda item: item[0])
        return FileList(items=[info for _, info in found], truncated=truncated)

    def _list_one(self, parts: Parts, top: bool, found: list[tuple[Parts, FileInfo]]) -> tuple[list[Parts], bool]:
        """Add one directory's entries; its sub-directories, and whether the limit cut it off."""
        below: list[Parts] = []
        with self.resolver.find(parts, follow=top) as spot, speaking(parts):
            if not spot.is_folder() or spot.fd is None:
                spot.status()
                if not top:
                    return [], False
                raise Invalid(f"{spell(parts)} is not a directory", field="path")
            with open_folder(spot.fd.fileno()) as folder, os.scandir(folder.fileno()) as entries:
                for entry in entries:
                    if len(found) >= LIST_ENTRIES_MAX:
                        return below, True
                    child = (*parts, entry.name)
                    try:
                        status = entry.stat(follow_symlinks=False)
                        link = stat.S_ISLNK(status.st_mode)
                        target = os.readlink(entry.name, dir_fd=folder.fileno()) if link else None
                    except OSError:
                        continue  # removed or replaced since it was listed
                    found.append((child, file_info(child, status, target)))
                    if stat.S_ISDIR(status.st_mode):
                        below.append(child)
        below.sort()
        return below, False

    def mkdir(self, parts: Parts, *, mode: int, parents: bool) -> FileInfo:
        """With `parents` a directory that exists already is fine, as for mkdir -p."""
        if parents and parts:
            self.ensure_folder(parts[:-1]).close()
        with self.resolver.find(parts, follow=parents, write=True) as spot, speaking(parts):
            if spot.fd is None:
                make_folder(spot.folder(), spot.name, mode)
            elif not parents or not spot.is_folder():
                raise AlreadyExists(f"{spell(parts)} exists already", field="path")
        return self.stat(parts, follow=parents)

    def ensure_folder(self, parts: Parts) -> Spot:
        """That directory, made with its parents where it is missing."""
        try:
            spot = self._existing_folder(parts)
            if spot is not None:
                return spot
        except NotFound:
            pass
        for length in range(len(parts)):
            with self.resolver.find(parts[: length + 1], follow=True, write=True) as step:
                if step.fd is None:
                    with speaking(parts[: length + 1]):
                        make_folder(step.folder(), step.name, 0o755, exist_ok=True)
        spot = self._existing_folder(parts)
        if spot is None:
            raise Conflict(f"{spell(parts)} was removed meanwhile; try again", field="path")
        return spot

    def _existing_folder(self, parts: Parts) -> Spot | None:
        spot = self.resolver.find(parts, follow=True, write=True)
        if spot.is_folder():
            return spot
        missing = spot.fd is None
        spot.close()
        if missing:
            return None
        raise Invalid(f"{spell(parts)} is not a directory", field="path")

    def rename(self, source: Parts, target: Parts) -> FileInfo:
        """As rename(2): it may replace a file, or an empty directory by a directory."""
        find = self.resolver.find
        with find(source, follow=False, write=True) as old, find(target, follow=False, write=True) as new:
            self._refuse_mounts(old, "source")
            self._refuse_mounts(new, "target")
            if old.fd is None:
                raise NotFound(f"{spell(source)} does not exist", field="source")
            if old.area is not new.area:
                raise Invalid(
                    f"{spell(source)} and {spell(target)} are on different file systems: copy it, then remove it",
                    field="target",
                )
            if new.is_folder() and not old.is_folder():
                raise Conflict(f"{spell(target)} is a directory", field="target")
            if old.is_folder() and new.fd is not None and not new.is_folder():
                raise Conflict(f"{spell(target)} exists and is not a directory", field="target")
            if old.parts != new.parts and new.parts[: len(old.parts)] == old.parts:
                raise Invalid(f"{spell(source)} cannot be moved into itself", field="target")
            with speaking(target, "target"):
                os.rename(old.name, new.name, src_dir_fd=old.folder().fileno(), dst_dir_fd=new.folder().fileno())
        return self.stat(target)

    def remove(self, parts: Parts, *, recursive: bool) -> None:
        """The thing itself: of a symlink the link, never where it leads."""
        with self.resolver.find(parts, follow=False, write=True) as spot, speaking(parts):
            self._refuse_mounts(spot, "path")
            spot.status()
            folder = spot.folder().fileno()
            if not spot.is_folder():
                os.unlink(spot.name, dir_fd=folder)
            elif recursive:
                remove_tree(folder, spot.name)
            else:
                try:
                    os.rmdir(spot.name, dir_fd=folder)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    words = f"{spell(parts)} is a directory that is not empty; set recursive to remove all of it"
                    raise Conflict(words, field="recursive") from None

    def _refuse_mounts(self, spot: Spot, field: str) -> None:
        if not spot.parts:
            raise Invalid("/ is the root of the disk: name something in it", field=field)
        mounts = self.resolver.mounts_below(spot.parts)
        if mounts:
            raise InUse(f"{spell(spot.parts)}: a host folder or volume is mounted at {spell(mounts[0])}", field=field)


def make_folder(parent: Fd, name: str, mode: int, *, exist_ok: bool = False) -> None:
    """A directory of root's with exactly that mode, whatever our umask is."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent.fileno())
    except FileExistsError:
        if exist_ok:
            return
        raise
    with open_folder(parent.fileno(), name) as made:
        os.fchown(made.fileno(), 0, 0)
        os.fchmod(made.fileno(), mode)


def remove_tree(parent: int, name: str) -> None:
    """Remove a directory and all in it. Symlinks in it are removed, never followed; a tree of any depth goes, with
    few descriptors: what lies too deep is moved up next to its ancestors first."""
    passes = moves = 0
    while passes < REMOVE_PASSES_MAX and moves < REMOVE_MOVES_MAX:
        moved = 0
        try:
            with open_folder(parent, name) as top:
                moved = _empty(top, top, 1)
            os.rmdir(name, dir_fd=parent)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        moves += moved
        passes += not moved
    raise OSError(errno.EAGAIN, "the directory is being filled while it is emptied")


def _empty(folder: Fd, top: Fd, depth: int) -> int:
    """Remove what is in it; how many directories were moved to `top` instead."""
    number, moved = folder.fileno(), 0
    with os.scandir(number) as entries:
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=number)
                elif depth >= REMOVE_DEPTH_MAX:
                    aside = f".removed-{secrets.token_hex(8)}"
                    os.rename(entry.name, aside, src_dir_fd=number, dst_dir_fd=top.fileno())
                    moved += 1
                else:
                    with open_folder(number, entry.name) as below:
                        moved += _empty(below, top, depth + 1)
                    os.rmdir(entry.name, dir_fd=number)
            except OSError as error:
                # Gone, replaced or filled again by the guest meanwhile: the next pass sees what is there then.
                if error.errno not in _MEANWHILE:
                    raise
    return moved


_MEANWHILE = {errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST}
