"""One name of a tree, here or in a sandbox, as far as two trees are compared by it; and what differs. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Kind = Literal["file", "directory", "symlink", "other"]


class Entry(NamedTuple):
    name: str
    """Relative to the tree, byte for byte (surrogate escapes)."""
    kind: Kind
    mode: int = 0o644
    size_bytes: int = 0
    modified_us: int = 0
    target: str = ""
    """Of a symlink, as it stands."""

    def is_as(self, other: Entry) -> bool:
        """Of folders the mode counts, of links where they lead, of files also size and time: as rsync looks at them."""
        if self.kind != other.kind:
            return False
        if self.kind == "symlink":
            return readable(self.target) == readable(other.target)
        if self.kind == "directory":
            return self.mode == other.mode
        mine = (self.mode, self.size_bytes, self.modified_us)
        return mine == (other.mode, other.size_bytes, other.modified_us)


Entries = Mapping[str, Entry]
"""By the name as the files API shows it, see `readable`."""


class Difference(NamedTuple):
    send: list[str]
    """Names to send, a folder before what is in it."""
    remove: list[str]
    """Names to remove there, with all that is below them."""


def difference(here: Entries, there: Entries, kept: Iterable[str] = ()) -> Difference:
    """What makes `there` as `here`. `kept` are names there that are nobody's to remove, nor the folders they are in."""
    send = [name for name, entry in here.items() if name not in there or not entry.is_as(there[name])]
    held = {folder for name in kept for folder in folders_of(name)}
    remove: list[str] = []
    gone: set[str] = set()
    for name in sorted(there, key=_by_parts):
        if not gone.isdisjoint(folders_of(name)):
            continue
        mine = here.get(name)
        replaced = mine is not None and mine.kind != there[name].kind
        if replaced or (mine is None and name not in held):
            remove.append(name)
            gone.add(name)
    # What stood below a folder that had to make way is gone with it; a link that made way led nowhere of ours.
    lost = {name for name in here if name in there and not gone.isdisjoint(folders_of(name))}
    return Difference(sorted({*send, *lost}, key=_by_parts), remove)


def folders_of(name: str) -> list[str]:
    """a/b/c -> a, a/b."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def readable(name: str) -> str:
    """As the files API shows names: a byte that is not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _by_parts(name: str) -> list[str]:
    return name.split("/")
