"""least-load: whoever has the fewest requests for its weight."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import least
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.turns import Turns


class LeastLoad(Memoryless):
    name = "least-load"

    def __init__(self) -> None:
        self._turns = Turns()

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        at = least(candidates, self._turns)
        self._turns.take(candidates[at])
        return Choice(at, f"least load, {candidates[at].in_flight} in flight")

    def gone(self, replica: str) -> None:
        self._turns.gone(replica)
