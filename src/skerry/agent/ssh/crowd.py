"""How many may be connected, and how many may be on their way in: whoever has no key must not keep out who has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")

CONNECTIONS_MAX = 512
OF_ONE_SANDBOX_MAX = 64
UNKNOWN_MAX = 64
"""That have not shown a key yet; each may take as long as `LOGIN_S_MAX`."""
ARRIVALS_PER_S, ARRIVALS_BURST = 30.0, 100.0
"""An arrival costs some milliseconds of arithmetic, for which everything else that the agent does must wait. The burst
lets a tool that opens a connection to each of a hundred sandboxes begin at once."""


class Crowd(Generic[V]):
    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._unknown: set[V] = set()
        self._known: dict[V, str] = {}
        self._of: Counter[str] = Counter()
        self._tokens = ARRIVALS_BURST
        self._counted_s = now_s()

    def admit(self, visitor: V) -> bool:
        now_s = self._now_s()
        self._tokens = min(ARRIVALS_BURST, self._tokens + (now_s - self._counted_s) * ARRIVALS_PER_S)
        self._counted_s = now_s
        if self._tokens < 1 or len(self._unknown) >= UNKNOWN_MAX or len(self._known) >= CONNECTIONS_MAX:
            return False
        self._tokens -= 1
        self._unknown.add(visitor)
        return True

    def settle(self, visitor: V, sandbox_id: str) -> bool:
        self._unknown.discard(visitor)
        if self._of[sandbox_id] >= OF_ONE_SANDBOX_MAX:
            return False
        self._known[visitor] = sandbox_id
        self._of[sandbox_id] += 1
        return True

    def leave(self, visitor: V) -> None:
        self._unknown.discard(visitor)
        sandbox_id = self._known.pop(visitor, None)
        if sandbox_id is not None:
            self._of[sandbox_id] -= 1
            if not self._of[sandbox_id]:
                del self._of[sandbox_id]

    def of(self, sandbox_id: str) -> list[V]:
        return [visitor for visitor, inside in self._known.items() if inside == sandbox_id]

    def all(self) -> list[V]:
        return [*self._unknown, *self._known]
