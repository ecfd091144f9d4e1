"""Whose a key or token is and what it may: asked of control, believed for seconds, and for longer only while control is
down."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Protocol

from skerry.errors import SkerryError, Unauthenticated, Unavailable
from skerry.model.traffic import Access

FRESH_S = 3.0
"""Believed so long without asking; then asked again while it is still used."""
STALE_S_MAX = 8.0
"""Older, whoever shows it waits for what control says: a token that was revoked opens nothing any more after that."""
ALONE_S_MAX = 900.0
"""While control is down, what it said last holds so long."""
UNKNOWN_S = 1.0
"""That there is no such token, believed for a moment: who guesses does not keep control busy."""
AWAY_S = 10.0
"""So long after control could not be asked nobody waits for it whose token it has told before: one that hangs takes
seconds to fail."""
KNOWN_MAX = 10_000
STRANGE_MAX = 1_000
"""Apart, so that who guesses tokens does not make us forget those that are good."""

Then = Callable[[Access | None, SkerryError | None], None]


class Control(Protocol):
    async def access_of(self, token: str) -> Access | None: ...


class Entry:
    """One token."""

    __slots__ = ("access", "asking", "hashed", "token", "told_s", "waiting")

    def __init__(self, token: str, hashed: bytes) -> None:
        self.token = token
        self.hashed = hashed
        self.access: Access | None = None
        self.told_s = -1e9
        self.asking: asyncio.Task[None] | None = None
        self.waiting: list[Then] = []


class Entrants:
    def __init__(self, control: Control, now_s: Callable[[], float], wall_s: Callable[[], float]) -> None:
        self._control = control
        self._now_s = now_s
        self._wall_s = wall_s
        self._known: dict[bytes, Entry] = {}
        self._strange: dict[bytes, Entry] = {}
        self._away_s = -1e9
        """When control could not be asked."""

    def entry(self, token: str) -> Entry:
        hashed = hashlib.sha256(token.encode()).digest()
        found = self._known.get(hashed) or self._strange.get(hashed)
        if found is None:
            found = Entry(token, hashed)
            _put(self._strange, found, STRANGE_MAX)
        return found

    def now(self, entry: Entry, now_s: float) -> Access | None:
        """What it may, if that is known well enough to go on at once."""
        if entry.access is None:
            return None
        age_s = now_s - entry.told_s
        if age_s < FRESH_S:
            return entry.access
        if age_s < STALE_S_MAX or (age_s < ALONE_S_MAX and now_s - self._away_s < AWAY_S):
            self._ask(entry)
            return entry.access
        return None

    def then(self, entry: Entry, then: Then) -> None:
        """Told when control has answered, or cannot."""
        if entry.access is None and self._now_s() - entry.told_s < UNKNOWN_S:
            then(None, Unauthenticated("this key or token is not known here"))
            return
        entry.waiting.append(then)
        self._ask(entry)

    def expired(self, access: Access) -> bool:
        return access.expires_at_s is not None and access.expires_at_s <= self._wall_s()

    def _ask(self, entry: Entry) -> None:
        if entry.asking is None:
            entry.asking = asyncio.get_running_loop().create_task(self._look(entry))

    async def _look(self, entry: Entry) -> None:
        error: SkerryError | None = None
        try:
            entry.access = await self._control.access_of(entry.token)
            entry.told_s = self._now_s()
            self._away_s = -1e9
            self._sort(entry)
            if entry.access is None:
                error = Unauthenticated("this key or token is not known here")
        except Unavailable as away:
            self._away_s = self._now_s()
            if entry.access is None or self._now_s() - entry.told_s > ALONE_S_MAX:
                error = away
        finally:
            entry.asking = None
            waiting, entry.waiting = entry.waiting, []
        for then in waiting:
            then(None if error is not None else entry.access, error)

    def _sort(self, entry: Entry) -> None:
        """Among those that control knows, or not."""
        here, there = (self._strange, self._known) if entry.access is None else (self._known, self._strange)
        there.pop(entry.hashed, None)
        if entry.hashed not in here:
            _put(here, entry, STRANGE_MAX if here is self._strange else KNOWN_MAX)


def _put(entries: dict[bytes, Entry], entry: Entry, most: int) -> None:
    if len(entries) >= most:
        del entries[next(iter(entries))]
    entries[entry.hashed] = entry
