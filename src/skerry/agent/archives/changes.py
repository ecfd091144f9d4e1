"""The layer that makes one disk of another of its family: what was added and changed, and a whiteout for what is gone.

Files are told apart as `files/diff.py` does it, by inode and times. Every name of a file with several is taken along
when one is, so that they are one file again; and whatever is not a folder is whited out before it is written, since
some tools would write into the old file, which other names may still mean.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tarfile
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from skerry.agent.commands import CHUNK_BYTES, running
from skerry.agent.files.diff import Entries, entries_of, status_of
from skerry.agent.files.openat2 import Fd, open_folder
from skerry.agent.files.views import readable
from skerry.agent.images.work import Job
from skerry.errors import Failed, LimitReached, Unsupported

LINKS_MAX = 1_000_000
"""Names of files that have several are held in memory while disks are compared."""
_WHITEOUT = ".wh."
# Times whole, with their fractions: only what changed pays for the longer headers.
_TAR = (
    *("tar", "--create", "--file=-", "--format=posix", "--numeric-owner"),
    *("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",),
    *("--xattrs", "--xattrs-include=*", "--xattrs-exclude=btrfs.*"),
    *("--null", "--verbatim-files-from", "--no-unquote", "--no-recursion"),
)


async def layer_of_changes(old: Path, new: Path, job: Job) -> AsyncGenerator[bytes, None]:
    """As a tar, in the form of an image's layer. Both are read-only; both must be there to the end."""
    names, whiteouts = job.folder / "names", job.folder / "whiteouts"
    await asyncio.to_thread(compare, old, new, names, whiteouts)
    with whiteouts.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    command = [*_TAR, f"--directory={new}", f"--files-from={names}"]
    async with running(command, environment=job.environment) as program:
        async for chunk in program.chunks():
            yield chunk
        code, stderr = await program.wait()
    if code != 0 or not (old.is_dir() and new.is_dir()):  # a disk on its way out looks like one with less in it
        raise Failed("a checkpoint was deleted while it was read; export again", because=stderr)


def compare(old: Path, new: Path, names: Path, whiteouts: Path) -> None:
    """`names`: what tar is to take from `new`, each ended by NUL. `whiteouts`: the beginning of the layer's tar."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    with ExitStack() as stack:
        was, now = (stack.enter_context(Fd(os.open(root, flags))) for root in (old, new))
        taken, gone = (stack.enter_context(path.open("wb")) for path in (names, whiteouts))
        _Comparison(was, now, taken, gone).run()


class _Comparison:
    def __init__(self, old: Fd, new: Fd, names: BinaryIO, whiteouts: BinaryIO) -> None:
        self._old = old
        self._new = new
        self._names = names
        self._whiteouts = whiteouts
        self._links: dict[int, list[str]] = {}
        """By inode: names of files with several, as they stand in both."""
        self._links_count = 0
        self._taken: set[int] = set()

    def run(self) -> None:
        """Folders one after the other by path from the root, so that no descriptor is held per level."""
        self._take("")
        waiting = [("", True)]
        while waiting:
            waiting.extend(reversed(self._folder(*waiting.pop())))
        for inode in self._taken:
            for path in self._links.get(inode, ()):
                self._take(path, whiteout=True)

    def _folder(self, path: str, in_old: bool) -> list[tuple[str, bool]]:
        with ExitStack() as stack:  # an entry is asked for its status through its folder
            old = entries_of(stack.enter_context(_open(self._old, path))) if in_old else {}
            new = entries_of(stack.enter_context(_open(self._new, path)))
            return self._compare(path + "/" if path else "", old, new)

    def _compare(self, prefix: str, old: Entries, new: Entries) -> list[tuple[str, bool]]:
        below: list[tuple[str, bool]] = []
        for name in sorted(new):
            now, was = _kept(status_of(new[name])), _kept(status_of(old.pop(name, None)))
            if now is None:
                if was is not None:
                    self._white_out(prefix + name)
                continue
            if name.startswith(_WHITEOUT):
                what = readable(f"/{prefix}{name}")
                raise Unsupported(f"{what}: a name that begins with {_WHITEOUT} cannot stand in an archive; rename it")
            if stat.S_ISDIR(now.st_mode):
                if was is None or not _same(was, now):
                    self._take(prefix + name, whiteout=was is not None and not stat.S_ISDIR(was.st_mode))
                below.append((prefix + name, was is not None and stat.S_ISDIR(was.st_mode)))
            elif was is None or not _same(was, now):
                self._take(prefix + name, whiteout=was is not None)
                if now.st_nlink > 1:
                    self._taken.add(now.st_ino)
            elif now.st_nlink > 1:
                self._remember(now.st_ino, prefix + name)
        for name, entry in old.items():
            if _kept(status_of(entry)) is not None:
                self._white_out(prefix + name)
        return below

    def _remember(self, inode: int, path: str) -> None:
        self._links_count += 1
        if self._links_count > LINKS_MAX:
            raise LimitReached(f"the disk has more than {LINKS_MAX} names of files with several: it cannot be exported")
        self._links.setdefault(inode, []).append(path)

    def _take(self, path: str, *, whiteout: bool = False) -> None:
        if whiteout:
            self._white_out(path)
        self._names.write(os.fsencode(f"./{path}") + b"\0")

    def _white_out(self, path: str) -> None:
        folder, slash, name = path.rpartition("/")
        info = tarfile.TarInfo(f"./{folder}{slash}{_WHITEOUT}{name}")
        info.mode = 0o600
        self._whiteouts.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


def _open(root: Fd, path: str) -> Fd:
    try:
        return open_folder(root.fileno(), path or ".")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LimitReached(f"a path of the disk is too long to be exported: {readable(path[:200])}…") from None
        raise


def _kept(status: os.stat_result | None) -> os.stat_result | None:
    """Sockets mean nothing without the program that listens, and no tar holds them."""
    return None if status is None or stat.S_ISSOCK(status.st_mode) else status


def _same(was: os.stat_result, now: os.stat_result) -> bool:
    return _marks(was) == _marks(now)


def _marks(status: os.stat_result) -> tuple[int, ...]:
    # ctime last: a guest can set every other time, but not this one.
    what = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_rdev)
    return (*what, status.st_mtime_ns, status.st_ctime_ns)
