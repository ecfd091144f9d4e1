"""The half of `Policy` that is about learning, for those that keep an index of prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate
from skerry.gateway.routing.prefix_index import PrefixIndex
from skerry.gateway.routing.spans import SIZES
from skerry.gateway.routing.turns import Turns

REMEMBERED: Final = 2.0
"""Times what a cache holds. What waits at an engine has pushed nothing out yet; and it is better to go where a
conversation may have been forgotten than to spread it over all."""


class Remembering:
    def __init__(self, index: PrefixIndex | None = None) -> None:
        self.index = index or PrefixIndex()
        self._turns = Turns()
        self.new_blocks = 0
        """That the last request brought to where it was sent."""

    def matched(self, ask: Ask, candidates: Sequence[Candidate]) -> list[int]:
        """Of each candidate, how many blocks of the prompt it has."""
        index = self.index
        found: Mapping[str, int] = index.matched(ask.blocks)
        for candidate in candidates:
            index.sized(candidate.id, int(candidate.cache_blocks * REMEMBERED))
        return [found.get(candidate.id, 0) for candidate in candidates]

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        self.new_blocks = self.index.add(replica, ask.blocks, sizes=SIZES)

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        return None

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        return None

    def stored(self, replica: str, ask: Ask) -> None:
        self.index.add(replica, ask.blocks, sizes=SIZES, again=True)

    def removed(self, replica: str, blocks: Sequence[int]) -> None:
        self.index.drop(replica, blocks)

    def cleared(self, replica: str) -> None:
        self.index.clear(replica)

    def gone(self, replica: str) -> None:
        self.index.forget(replica)
        self._turns.gone(replica)
