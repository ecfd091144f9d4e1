"""The blocks of KV cache: who holds how many, which prefixes they keep, and which go first.

Blocks have no numbers here. One is either blank, or private to a request, or kept under its hash, by which any request
with the same prefix finds it; of those kept, the ones that nobody uses wait in the order in which they will go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

Table = list["int | None"]
"""A request's blocks in order: the hash of one that is kept, None for one that is private."""


class EventKind(StrEnum):
    STORED = "stored"
    REMOVED = "removed"
    CLEARED = "cleared"


class Event(NamedTuple):
    """What of the cache other programs may want to know."""

    kind: EventKind
    blocks: list[int]
    parent: int | None = None
    """The block before the first of those stored."""


class Blocks:
    def __init__(self, total: int, *, keep: bool, publish: bool) -> None:
        self.total = total
        self._keep = keep
        self._publish = publish
        self._blank = total
        self._users: dict[int, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()
        self._events: list[Event] = []

    @property
    def available(self) -> int:
        """Blank, or kept for nobody."""
        return self._blank + len(self._unused)

    @property
    def kept(self) -> int:
        return len(self._users)

    @property
    def private(self) -> int:
        return self.total - self._blank - len(self._users)

    @property
    def use(self) -> float:
        return 1.0 - self.available / self.total

    def has(self, block: int) -> bool:
        return block in self._users

    def match(self, blocks: Sequence[int], limit: int) -> int:
        """How many of the first `limit` are kept, from the first on without a gap."""
        users = self._users
        count = 0
        for block in blocks:
            if count >= limit or block not in users:
                break
            count += 1
        return count

    def room(self, matched: Sequence[int], fresh: int) -> bool:
        """Whether a request can use those matched and have so many more."""
        if self.available - len(matched) >= fresh:
            return True
        unused = self._unused
        return self.available - sum(block in unused for block in matched) >= fresh

    def use_again(self, matched: Sequence[int], table: Table) -> None:
        users, unused = self._users, self._unused
        for block in matched:
            if users[block] == 0:
                del unused[block]
            users[block] += 1
        table.extend(matched)

    def take(self, count: int, table: Table) -> None:
        """Private ones, which must be available: blank first, then those that nobody has used for longest."""
        if count <= 0:
            return
        short = count - self._blank
        if short > 0:
            gone = [self._unused.popitem(last=False)[0] for _ in range(short)]
            for block in gone:
                del self._users[block]
            self._blank += short
            self._tell(EventKind.REMOVED, gone)
        self._blank -= count
        table.extend([None] * count)

    def seal(self, table: Table, blocks: Sequence[int], start: int, end: int) -> None:
        """Those from start to end are full now: keep them under their hashes, or use what is kept already instead, as
        SGLang does. So whoever uses a block uses all before it, and those before it go after it."""
        if not self._keep or start >= len(blocks):
            return
        users = self._users
        stored: list[int] = []
        parent = blocks[start - 1] if start else None
        for at in range(start, min(end, len(blocks))):
            block = blocks[at]
            if block not in users:
                users[block] = 1
                stored.append(block)
            else:
                if users[block] == 0:
                    del self._unused[block]
                users[block] += 1
                self._blank += 1
                self._tell(EventKind.STORED, stored, parent)
                stored, parent = [], block
            table[at] = block
        self._tell(EventKind.STORED, stored, parent)

    def free(self, table: Table) -> None:
        """The last first, so that of a prefix the end goes before the beginning."""
        users, unused = self._users, self._unused
        for block in reversed(table):
            if block is None:
                self._blank += 1
            elif users[block] == 1:
                users[block] = 0
                unused[block] = None
            else:
                users[block] -= 1
        table.clear()

    def clear(self) -> None:
        """Forget what nobody uses, as an engine does whose cache is reset."""
        for block in self._unused:
            del self._users[block]
        self._blank += len(self._unused)
        self._unused.clear()
        if self._publish:
            self._events.append(Event(EventKind.CLEARED, []))

    def events(self) -> list[Event]:
        """Those since the last call."""
        events, self._events = self._events, []
        return events

    def _tell(self, kind: EventKind, blocks: list[int], parent: int | None = None) -> None:
        if self._publish and blocks:
            self._events.append(Event(kind, blocks, parent))
