"""Weights first, then the policy: each weight's replicas together get their share, and the policy chooses among them.

A policy that goes where a prompt is cached would never try a canary, or never leave it. So it may choose freely as long
as no weight's replicas are more than a few requests ahead of their share; those that are wait until they are not. The
share holds in the long run, and conversations move no more than they must. With equal weights nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice, Policy
from skerry.gateway.routing.turns import REPLICAS_MAX, share

AHEAD_MAX: Final = 8.0
"""Requests."""
KEPT: Final = 0.999
"""Of what a replica is ahead or behind, from one request to the next: what was long ago is not made up for."""


class Shares:
    def __init__(self, inner: Policy) -> None:
        self.inner = inner
        self.name = inner.name
        self._ahead: dict[str, float] = {}

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        first = candidates[0].weight
        if all(candidate.weight == first for candidate in candidates):
            self._ahead.clear()
            return self.inner.pick(ask, candidates, now_s)
        allowed = self._allowed(candidates)
        choice = self.inner.pick(ask, [candidates[i] for i in allowed], now_s)
        choice = replace(
            choice, at=allowed[choice.at], prefill_at=-1 if choice.prefill_at < 0 else allowed[choice.prefill_at]
        )
        self._count(candidates, candidates[choice.at].id)
        return choice

    def _allowed(self, candidates: Sequence[Candidate]) -> list[int]:
        ahead: dict[float, float] = {}
        for candidate in candidates:
            if candidate.role != "prefill":
                ahead[candidate.weight] = ahead.get(candidate.weight, 0.0) + self._ahead.get(candidate.id, 0.0)
        allowed = [i for i, it in enumerate(candidates) if it.role == "prefill" or ahead[it.weight] <= AHEAD_MAX]
        if all(candidates[i].role == "prefill" for i in allowed):
            return list(range(len(candidates)))
        return allowed

    def _count(self, candidates: Sequence[Candidate], picked: str) -> None:
        if len(self._ahead) > REPLICAS_MAX:
            self._ahead.clear()
        answering = [candidate for candidate in candidates if candidate.role != "prefill"]
        weights = sum(share(candidate) for candidate in answering) or 1.0
        for candidate in answering:
            before = self._ahead.get(candidate.id, 0.0) * KEPT
            self._ahead[candidate.id] = before - share(candidate) / weights + (candidate.id == picked)

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        self.inner.routed(ask, replica, now_s)

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        self.inner.began(ask, replica, ttft_s, now_s)

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        self.inner.ended(ask, replica, ok, ttft_s, now_s)

    def stored(self, replica: str, ask: Ask) -> None:
        self.inner.stored(replica, ask)

    def removed(self, replica: str, blocks: Sequence[int]) -> None:
        self.inner.removed(replica, blocks)

    def cleared(self, replica: str) -> None:
        self.inner.cleared(replica)

    def gone(self, replica: str) -> None:
        self._ahead.pop(replica, None)
        self.inner.gone(replica)
