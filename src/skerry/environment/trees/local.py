"""A tree on this machine: looked through and packed without ever going through a link.

The folder may be one that a sandbox sees too (`sync: bind`), and a guest may change it while we read. So folders are
opened by descriptor, one name at a time, and a link that appears where a folder was stops us instead of leading us.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from skerry.client.pack import CHUNK_BYTES, gathered, head, padding
from skerry.environment.reading import FOLDER, open_without_links, place_of
from skerry.environment.trees.entry import Entry, Kind, readable
from skerry.environment.trees.ignore import Ignore
from skerry.errors import Invalid, NotFound, TooLarge

ENTRIES_MAX = 500_000
"""Of one tree; an archive may have a million members."""
DEPTH_MAX = 128
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

OnFolder = Callable[[int], object]


def real_place(folder: Path, source: str) -> Path:
    """Where `source` of a file in `folder` is. Raises Invalid for a link in the folder that leads out of it."""
    base = folder.resolve()
    named = place_of(base, source)
    place = Path(os.path.realpath(named))
    # A link can be put only into the folder: what the name leads to through it, or through a link to it, stays in it.
    stays = any(Path(os.path.realpath(above)).is_relative_to(base) for above in named.parents)
    if stays and not place.is_relative_to(base):
        raise Invalid(f"{source} is, or is behind, a link that leads out of {base}; name the place where it leads")
    if not place.exists():
        raise NotFound(f"there is no {named}")
    return place


def open_real(place: Path, flags: int) -> int:
    """A path without links in it, opened so that none can appear in it meanwhile."""
    try:
        return open_without_links(place, flags)
    except OSError as error:
        raise Invalid(f"cannot read {place}: {error.strerror}") from None


def read_real(place: Path, bytes_max: int) -> bytes:
    """A file's content, of a path as `real_place` gives it."""
    with os.fdopen(open_real(place, _FILE), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Invalid(f"{place} is not a file")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise TooLarge(f"{place} is larger than {bytes_max} bytes")
    return data


class LocalTree:
    """The content of one folder, or one file alone as a tree of one name. Close it, or leave its `with` block."""

    def __init__(self, place: Path, ignore: Ignore | None = None) -> None:
        self._ignore = ignore or Ignore()
        self._only: str | None = None
        if not place.is_dir():
            self._only, place = place.name, place.parent
        self.place = place
        self._root = open_real(place, FOLDER)

    def __enter__(self) -> LocalTree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def _top(self) -> Entry:
        return _entry("", os.fstat(self._root))

    def scan(self, *, on_folder: OnFolder | None = None) -> dict[str, Entry]:
        """Every name that is not ignored. `on_folder` gets a descriptor of each folder before it is looked through."""
        found: dict[str, Entry] = {}
        if self._only is not None:
            self._take(self._root, self._only, self._only, found)
            return found
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            parts = waiting.pop()
            try:
                number = self._open_folder(parts)
            except OSError as error:
                if parts and error.errno != 13:
                    continue  # it went away meanwhile, or a link took its place: the next look sees that
                raise self._unreadable("/".join(parts), error) from None
            try:
                if on_folder is not None:
                    on_folder(number)
                for name in sorted(os.listdir(number), reverse=True):
                    if self._take(number, name, "/".join((*parts, name)), found):
                        waiting.append((*parts, name))
            finally:
                os.close(number)
            if len(parts) > DEPTH_MAX or len(found) > ENTRIES_MAX:
                raise TooLarge(
                    f"{self.place} has over {ENTRIES_MAX} names, or is deeper than {DEPTH_MAX}: exclude some"
                )
        return found

    def _take(self, folder: int, name: str, inner: str, found: dict[str, Entry]) -> bool:
        """Whether it is a folder to look into."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            if self._ignore(readable(inner), is_folder):
                return False
            target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else ""
        except OSError:
            return False  # gone since it was listed
        entry = _entry(inner, status, target)
        if entry.kind != "other":  # sockets, pipes and devices stay here
            found[readable(inner)] = entry
        return is_folder

    def pack(
        self,
        entries: Sequence[Entry],
        *,
        prefix: str = "",
        owner: tuple[int, int] = (0, 0),
        mode: int | None = None,
        top: bool = False,
        changed: list[Entry] | None = None,
    ) -> Iterator[bytes]:
        """A tar of them, below `prefix`; of a file alone, as `prefix`. `top`: with the folder `prefix` itself, in the
        mode that ours has. `mode`: of each file, instead of its own. What is gone meanwhile is left out; a file that
        changes while it is read comes as it can, and is told in `changed`."""
        if top and prefix and self._only is None:
            entries = [self._top(), *entries]
        return gathered(self._pack(entries, prefix, owner, mode, changed))

    def _pack(
        self,
        entries: Sequence[Entry],
        prefix: str,
        owner: tuple[int, int],
        mode: int | None,
        changed: list[Entry] | None,
    ) -> Iterator[bytes]:
        folders: dict[tuple[str, ...], int] = {}
        try:
            for entry in entries:
                parts = tuple(entry.name.split("/"))
                info = tarfile.TarInfo(prefix if self._only else "/".join(filter(None, (prefix, entry.name))))
                info.uid, info.gid = owner
                info.mode = entry.mode
                _set_time(info, entry.modified_us)
                if entry.kind == "directory":
                    info.type = tarfile.DIRTYPE
                    yield head(info)
                elif entry.kind == "symlink":
                    info.type, info.linkname = tarfile.SYMTYPE, entry.target
                    yield head(info)
                else:
                    try:
                        folder = self._held_folder(folders, parts[:-1])
                        number = os.open(parts[-1], _FILE, dir_fd=folder)
                    except (FileNotFoundError, NotADirectoryError):
                        continue
                    except OSError as error:
                        raise self._unreadable(entry.name, error) from None
                    yield from _file(number, info, mode, entry, changed)
        finally:
            for number in folders.values():
                os.close(number)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _held_folder(self, held: dict[tuple[str, ...], int], parts: tuple[str, ...]) -> int:
        """One at a time: what is packed comes folder by folder."""
        if parts not in held:
            number = self._open_folder(parts)
            while held:
                os.close(held.popitem()[1])
            held[parts] = number
        return held[parts]

    def _open_folder(self, parts: Sequence[str]) -> int:
        folder = os.dup(self._root)
        try:
            for part in parts:
                below = os.open(part, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _unreadable(self, name: str, error: OSError) -> Invalid:
        return Invalid(
            f"cannot read {readable(str(self.place / name))}: {error.strerror}; exclude it, or be another user"
        )


def _entry(name: str, status: os.stat_result, target: str = "") -> Entry:
    mode = status.st_mode
    kind: Kind = "other"
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    return Entry(name, kind, stat.S_IMODE(mode), status.st_size, max(0, status.st_mtime_ns // 1000), target)


def _set_time(info: tarfile.TarInfo, modified_us: int) -> None:
    """To the microsecond: two versions of a file may be of one second and one size."""
    info.mtime = modified_us // 1_000_000
    info.pax_headers = {"mtime": f"{info.mtime}.{modified_us % 1_000_000:06d}"}


def _file(
    number: int, info: tarfile.TarInfo, mode: int | None, entry: Entry, changed: list[Entry] | None
) -> Iterator[bytes]:
    with os.fdopen(number, "rb", buffering=0) as file:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            return  # another took its place: the next look sees that
        before = _entry(entry.name, status)
        info.size = before.size_bytes
        info.mode = before.mode if mode is None else mode
        _set_time(info, before.modified_us)
        yield head(info)
        left = info.size
        while left:
            # The head has its size already: what a file has less is filled up, what it has more is cut.
            chunk = file.read(min(CHUNK_BYTES, left)) or bytes(min(CHUNK_BYTES, left))
            left -= len(chunk)
            yield chunk
        yield padding(info.size)
        if changed is not None and _entry(entry.name, os.fstat(number)) != before:
            changed.append(entry)
