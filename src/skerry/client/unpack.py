"""A tar stream from a sandbox onto this machine. The sandbox may be hostile: nothing is written outside of the target.

Every folder is opened by descriptor, one name at a time, never through a link (O_NOFOLLOW), so a link in the archive
cannot redirect a later member. Links that point out of the copied tree are left out unless asked for.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from skerry.errors import Conflict, Invalid, SkerryError

CHUNK_BYTES = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Reader:
    """What tarfile needs to read chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""

    def read(self, size: int) -> bytes:
        pieces = [self._held]
        have = len(self._held)
        while have < size and (chunk := next(self._chunks, b"")):
            pieces.append(chunk)
            have += len(chunk)
        whole = b"".join(pieces)
        self._held = whole[size:]
        return whole[:size]


class Unpacked:
    """How much came: for reports."""

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0


def unpack(
    chunks: Iterable[bytes],
    into: Path,
    top: str,
    *,
    all_links: bool = False,
    on_skip: Callable[[str], None] | None = None,
) -> Unpacked:
    """Extract below the existing folder `into`, calling the archive's one top entry `top`.

    Owner and special mode bits are not taken over. Raises Invalid for an archive that is not as ours are.
    """
    if top in ("", ".", "..") or "/" in top:
        raise Invalid(f"{top!r} cannot be the name of a file")
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpacking = _Unpacking(root, top, all_links, on_skip or (lambda said: None))
        reader = cast(IO[bytes], _Reader(chunks))
        with tarfile.open(fileobj=reader, mode="r|", errorlevel=2) as archive:
            while (member := archive.next()) is not None:
                # tarfile keeps every member it has seen; an archive may have millions.
                setattr(archive, "members", [])  # noqa: B010
                unpacking.take(archive, member)
        unpacking.finish()
        return unpacking.done
    except tarfile.TarError as error:
        raise Invalid(f"what came is not a whole tar archive: {error}") from None
    except OSError as error:
        raise Conflict(f"cannot write {error.filename or into}: {error.strerror}") from None
    finally:
        os.close(root)


class _Unpacking:
    def __init__(self, root: int, top: str, all_links: bool, on_skip: Callable[[str], None]) -> None:
        self.done = Unpacked()
        self._root = root
        self._top = top
        self._all_links = all_links
        self._on_skip = on_skip
        self._first: str | None = None
        self._modes: list[tuple[list[str], int, float]] = []

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        if member.isdir():
            with self._folder(parts):
                self._modes.append((parts, (member.mode & 0o755) | 0o700, member.mtime))
            return
        with self._folder(parts[:-1]) as folder:
            if member.isreg() and not member.issparse():
                self._clear(folder, parts)
                self._file(folder, parts[-1], archive, member)
            elif member.issym():
                self._symlink(folder, parts, member)
            elif member.islnk():
                self._clear(folder, parts)
                source = self._parts(member.linkname)
                with self._folder(source[:-1], make=False) as other:
                    os.link(source[-1], parts[-1], src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
            else:
                self._on_skip(f"{member.name}: not a file, folder or link; left out")
                return
        self.done.files += 1

    def finish(self) -> None:
        """Folders get mode and time last: a read-only one must be filled first."""
        for parts, mode, modified in reversed(self._modes):
            with self._folder(parts, make=False) as folder:
                os.fchmod(folder, mode)
                os.utime(folder, (modified, modified))

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or not parts:
            raise Invalid(f"the archive names {name[:200]!r}, which is not below its top")
        self._first = self._first or parts[0]
        if parts[0] != self._first:
            raise Invalid(f"the archive has a second top entry {parts[0][:200]!r}")
        return [self._top, *parts[1:]]

    @contextmanager
    def _folder(self, parts: list[str], make: bool = True) -> Generator[int]:
        folder = os.dup(self._root)
        try:
            for part in parts:
                if make:
                    try:
                        os.mkdir(part, 0o755, dir_fd=folder)
                    except FileExistsError:
                        pass
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=folder)
                except OSError as error:
                    raise Conflict(f"{'/'.join(parts)}: {part!r} is not a folder here: {error.strerror}") from None
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    def _clear(self, folder: int, parts: list[str]) -> None:
        try:
            os.unlink(parts[-1], dir_fd=folder)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError) as error:
            raise Conflict(f"cannot replace {'/'.join(parts)}: {error.strerror}") from None

    def _file(self, folder: int, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        source: Any = archive.extractfile(member)
        with os.fdopen(os.open(name, _CREATE, 0o600, dir_fd=folder), "wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), (member.mode & 0o755) | 0o600)
            os.utime(file.fileno(), (member.mtime, member.mtime))
        self.done.size_bytes += member.size

    def _symlink(self, folder: int, parts: list[str], member: tarfile.TarInfo) -> None:
        if not self._all_links and not stays_inside(member.linkname, depth=len(parts) - 2):
            self.done.files -= 1
            self._on_skip(f"{member.name}: a link to {member.linkname[:200]}, outside of the copy; left out")
            return
        self._clear(folder, parts)
        os.symlink(member.linkname, parts[-1], dir_fd=folder)


def stays_inside(target: str, depth: int) -> bool:
    """Whether a link `depth` folders below the top can only lead to places below the top.

    '..' may only stand first: after a name it would climb from wherever that name, perhaps a link itself, leads.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return not target.startswith("/") and climbs <= depth and ".." not in parts[climbs:]


def download_place(local: str, remote: str) -> tuple[Path, str]:
    """(folder, name) for `remote` copied to `local`, by the rules of `docker cp`."""
    path = Path(local)
    if remote.endswith("/.") or not path.is_dir():
        path = path.resolve()
        if not path.parent.is_dir():
            raise _missing(path.parent)
        if local.endswith("/") and not path.is_dir() and not remote.endswith("/."):
            raise _missing(path)
        return path.parent, path.name
    name = remote.rstrip("/").rsplit("/", 1)[-1]
    return path.resolve(), name or "root"


def _missing(path: Path) -> SkerryError:
    return Invalid(f"there is no folder {path} on this machine")
