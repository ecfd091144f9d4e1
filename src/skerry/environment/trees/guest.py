"""A tree in a sandbox, by the files API's listings, of which each is bounded."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from skerry.client.calls import files
from skerry.client.transport import Transport
from skerry.environment.trees.entry import Entry, Kind
from skerry.environment.trees.ignore import Ignore
from skerry.environment.trees.local import ENTRIES_MAX
from skerry.errors import NotFound, TooLarge

DEPTH = 32
"""As deep as one listing goes; what lies deeper is listed for itself."""
LISTING = 10_000
"""Names in one listing at most, as the server has it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KINDS: dict[str, Kind] = {"file": "file", "directory": "directory", "symlink": "symlink"}


class GuestTree(NamedTuple):
    entries: dict[str, Entry]
    ignored: list[str]
    """Names that the patterns leave alone, without what is below them."""


def look(transport: Transport, base: str, top: str, ignore: Ignore, *, expected: int = 0) -> GuestTree | None:
    """What is below the folder `top`; None where there is nothing. Raises Invalid where `top` is no folder.

    `expected`: about how many names there are; more than one listing holds are asked for folder by folder at once."""
    entries: dict[str, Entry] = {}
    ignored: list[str] = []
    waiting: deque[tuple[str, int]] = deque([("", DEPTH if expected < LISTING else 1)])
    while waiting:
        inner, depth = waiting.popleft()
        try:
            reply: Any = transport.json(files.list_all(base, f"{top}/{inner}" if inner else top, depth))
        except NotFound as error:
            if error.field != "path":
                raise
            if not inner:
                return None
            continue  # removed meanwhile
        if reply["truncated"] and depth > 1:
            waiting.append((inner, 1))
            continue
        if reply["truncated"]:
            raise TooLarge(f"{top}/{inner} in the sandbox has too many names for one folder: exclude it")
        level = inner.count("/") + 1 if inner else 0
        last_ignored = "\0"
        for item in reply["items"]:
            name = item["path"][len(top) + 1 :] if top != "/" else item["path"][1:]
            if name.startswith(last_ignored):
                continue
            is_folder = item["kind"] == "directory"
            if ignore(name, is_folder):
                ignored.append(name)
                last_ignored = f"{name}/"
                continue
            entries[name] = _entry(name, item)
            if is_folder and name.count("/") + 1 - level == depth:
                waiting.append((name, DEPTH))
        if len(entries) > ENTRIES_MAX:
            raise TooLarge(f"{top} in the sandbox has over {ENTRIES_MAX} names: exclude some")
    return GuestTree(entries, ignored)


def _entry(name: str, item: dict[str, Any]) -> Entry:
    modified = datetime.fromisoformat(item["modified_at"])
    return Entry(
        name,
        _KINDS.get(item["kind"], "other"),
        int(item["mode"], 8),
        item["size_bytes"],
        (modified - _EPOCH) // _MICROSECOND,
        item["target"] or "",
    )
