"""disaggregated: who answers, and whether another computes the prompt first (prefill and decode apart).

A long prompt that is not cached holds up all answers of the replica that computes it, so it is computed where there are
none, and its cache is sent over. What is cached where it is answered is not worth the sending: the part that is not
decides, as in llm-d and Dynamo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from skerry.gateway.routing.attention import uncached
from skerry.gateway.routing.auto import Auto
from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import load
from skerry.gateway.routing.predicting import Predicting

APART_TOKENS: Final = 512
"""Not cached: fewer are computed where they are answered. To send a cache takes some milliseconds, as these do."""


class _Prefill(Predicting):
    """The first to be done with it."""

    name = "prefill"

    def __init__(self) -> None:
        super().__init__()
        self._at: dict[int, str] = {}
        """Request -> where its prompt is being computed."""

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        outlooks = self.outlook(ask, candidates, now_s)
        done_s = [outlook.wait_s + outlook.prefill_s for outlook in outlooks]
        at = self._turns.next(candidates, [i for i, found in enumerate(done_s) if found == min(done_s)])
        return self.choose(ask, candidates, at, outlooks[at], f"{done_s[at]:.3f} s")

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        super().routed(ask, replica, now_s)
        self._at[id(ask)] = replica

    def done(self, ask: Ask, ttft_s: float | None, now_s: float) -> None:
        """The first token came from where it is answered, soon after its prompt was computed here; or it failed."""
        replica = self._at.pop(id(ask), None)
        if replica is None:
            return
        if ttft_s is not None:
            self.began(ask, replica, ttft_s, now_s)
        self.ended(ask, replica, ttft_s is not None, ttft_s, now_s)

    def gone(self, replica: str) -> None:
        super().gone(replica)
        self._at = {ask: at for ask, at in self._at.items() if at != replica}


class Disaggregated(Auto):
    name = "disaggregated"

    def __init__(self, apart_tokens: int = APART_TOKENS) -> None:
        super().__init__()
        self._apart_tokens = apart_tokens
        self._prefill = _Prefill()
        self._first: tuple[Ask, str] | None = None

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        everyone = range(len(candidates))
        answering = [i for i in everyone if candidates[i].role != "prefill"] or list(everyone)
        computing = [i for i in everyone if candidates[i].role == "prefill"]
        choice = super().pick(ask, [candidates[i] for i in answering], now_s)
        choice = replace(choice, at=answering[choice.at])
        self._first = None
        alone = uncached(ask, choice.matched_blocks)
        if not computing or candidates[choice.at].role == "prefill" or alone < self._apart_tokens:
            return choice
        first = self._prefill.pick(ask, [candidates[i] for i in computing], now_s)
        at = computing[first.at]
        self._first = (ask, candidates[at].id)
        why = f"prefill apart, {alone} tokens not cached, {load(candidates[at]):.0f} in flight there; then {choice.why}"
        return replace(choice, why=why[:119], matched_blocks=first.matched_blocks, prefill_at=at)

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        """Both have its blocks then: what was sent over is kept as if it had been computed there."""
        super().routed(ask, replica, now_s)
        first, self._first = self._first, None
        if first is not None and first[0] is ask:
            self._prefill.routed(ask, first[1], now_s)

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        super().began(ask, replica, ttft_s, now_s)
        self._prefill.done(ask, ttft_s, now_s)

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        super().ended(ask, replica, ok, ttft_s, now_s)
        self._prefill.done(ask, None, now_s)

    def stored(self, replica: str, ask: Ask) -> None:
        super().stored(replica, ask)
        self._prefill.stored(replica, ask)

    def removed(self, replica: str, blocks: Sequence[int]) -> None:
        super().removed(replica, blocks)
        self._prefill.removed(replica, blocks)

    def cleared(self, replica: str) -> None:
        super().cleared(replica)
        self._prefill.cleared(replica)

    def gone(self, replica: str) -> None:
        super().gone(replica)
        self._prefill.gone(replica)
