"""lora: where the adapter is loaded, and where it is not, so that replicas have few each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skerry.gateway.routing.adapters import Adapters
from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import least, load
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.turns import Turns

BUSY_MORE: Final = 8.0
"""Requests that those with the adapter may have more than the least loaded one: then it is worth to load it again."""


class Lora(Memoryless):
    name = "lora"

    def __init__(self) -> None:
        self._turns = Turns()
        self._adapters = Adapters()

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        at, why = self._at(ask, candidates)
        self._turns.take(candidates[at])
        return Choice(at, why)

    def _at(self, ask: Ask, candidates: Sequence[Candidate]) -> tuple[int, str]:
        lowest = least(candidates, self._turns)
        if not ask.adapter:
            return lowest, "no adapter, least load"
        holders = [i for i, candidate in enumerate(candidates) if self._adapters.has(candidate, ask.adapter)]
        if holders:
            at = least(candidates, self._turns, holders)
            if load(candidates[at]) <= load(candidates[lowest]) + BUSY_MORE:
                return at, f"has {ask.adapter}, {candidates[at].in_flight} in flight"
            return lowest, f"those with {ask.adapter} are busy"
        fewest = min(len(candidate.adapters) for candidate in candidates)
        fewer = [i for i, candidate in enumerate(candidates) if len(candidate.adapters) == fewest]
        return least(candidates, self._turns, fewer), f"nobody has {ask.adapter}, has the fewest"

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        self._adapters.sent(ask, replica)

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        if not ok:
            self._adapters.failed(ask, replica)

    def cleared(self, replica: str) -> None:
        self._adapters.forget(replica)

    def gone(self, replica: str) -> None:
        self._adapters.forget(replica)
        self._turns.gone(replica)
