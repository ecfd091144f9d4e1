"""round-robin: each in turn, as often as its weight says."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.turns import Turns


class RoundRobin(Memoryless):
    name = "round-robin"

    def __init__(self) -> None:
        self._turns = Turns()

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        at = self._turns.next(candidates)
        self._turns.take(candidates[at])
        return Choice(at, "its turn")

    def gone(self, replica: str) -> None:
        self._turns.gone(replica)
