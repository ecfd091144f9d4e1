"""What a policy needs to say in seconds what a request would meet at each replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from skerry.gateway.routing.adapters import Adapters
from skerry.gateway.routing.attention import pairs, uncached
from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.prefix_index import PrefixIndex
from skerry.gateway.routing.remembering import Remembering
from skerry.gateway.routing.speeds import Speeds

ADAPTER_LOAD_S: Final = 0.4
"""To load a LoRA adapter that a replica does not have: some hundred megabytes from disk."""
LATE: Final = 2.0
"""How many seconds more a replica is expected to keep who comes now, for each that its oldest prompt is overdue."""
FIRST_WORK: Final = 200.0
"""Of a prompt, before anything is known."""
KEPT: Final = 0.98
"""Of what was learned, from one request to the next."""


class Outlook(NamedTuple):
    matched: int
    """Blocks."""
    wait_s: float
    """Prompts ahead of it, an adapter to load, and what the replica is behind with."""
    prefill_s: float


class _Pending(NamedTuple):
    sent_s: float
    expected_s: float
    pairs: float


class _Chosen(NamedTuple):
    ask: Ask
    replica: str
    tokens: int
    pairs: float
    expected_s: float


class Predicting(Remembering):
    def __init__(self, index: PrefixIndex | None = None) -> None:
        super().__init__(index)
        self._speeds = Speeds()
        self._adapters = Adapters()
        self._pending: dict[str, dict[int, _Pending]] = {}
        """Replica -> requests that have no first token yet, oldest first."""
        self._pairs: dict[str, float] = {}
        """Replica -> of all of those."""
        self._chosen: _Chosen | None = None
        self.usual_work = FIRST_WORK
        """Of a request, where it was sent, in tokens; a mean that fades."""

    def outlook(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> list[Outlook]:
        found: list[Outlook] = []
        for candidate, matched in zip(candidates, self.matched(ask, candidates), strict=True):
            s_per_token = self._speeds.s_per_token(candidate)
            wait_s = self.ahead(candidate) * s_per_token + self.overdue_s(candidate.id, now_s) * LATE
            if ask.adapter and not self._adapters.has(candidate, ask.adapter):
                wait_s += ADAPTER_LOAD_S
            found.append(Outlook(matched, wait_s, self.work(ask, matched) * s_per_token))
        return found

    def work(self, ask: Ask, matched: int) -> float:
        """To read it there, in tokens."""
        return uncached(ask, matched) + self._speeds.tokens_per_pair * pairs(ask, matched)

    def ahead(self, candidate: Candidate) -> float:
        """Work that waits there, in tokens."""
        return candidate.prefill_tokens + self._speeds.tokens_per_pair * self._pairs.get(candidate.id, 0.0)

    def overdue_s(self, replica: str, now_s: float) -> float:
        """How much longer than expected its oldest prompt has waited: its memory is full, or others send to it too."""
        pending = self._pending.get(replica)
        if not pending:
            return 0.0
        oldest = next(iter(pending.values()))
        return max(0.0, now_s - oldest.sent_s - oldest.expected_s)

    def choose(self, ask: Ask, candidates: Sequence[Candidate], at: int, outlook: Outlook, why: str) -> Choice:
        candidate = candidates[at]
        self._turns.take(candidate)
        tokens, more = uncached(ask, outlook.matched), pairs(ask, outlook.matched)
        self._chosen = _Chosen(ask, candidate.id, tokens, more, outlook.wait_s + outlook.prefill_s)
        self.usual_work = self.usual_work * KEPT + self.work(ask, outlook.matched) * (1 - KEPT)
        found = f"prefix {outlook.matched}/{len(ask.blocks)} blocks, {candidate.in_flight} in flight"
        return Choice(at, f"{why}, {found}", outlook.matched)

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        super().routed(ask, replica, now_s)
        self._adapters.sent(ask, replica)
        chosen, self._chosen = self._chosen, None
        if chosen is not None and chosen.ask is ask and chosen.replica == replica:
            self._speeds.sent(ask, replica, chosen.tokens, chosen.pairs)
            self._pending.setdefault(replica, {})[id(ask)] = _Pending(now_s, chosen.expected_s, chosen.pairs)
            self._pairs[replica] = self._pairs.get(replica, 0.0) + chosen.pairs

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        self._speeds.began(ask, replica, ttft_s, now_s)
        self._is_read(ask, replica)

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        super().ended(ask, replica, ok, ttft_s, now_s)
        self._speeds.ended(ask, replica)
        self._is_read(ask, replica)
        if not ok:
            self._adapters.failed(ask, replica)

    def _is_read(self, ask: Ask, replica: str) -> None:
        pending = self._pending.get(replica)
        found = pending.pop(id(ask), None) if pending else None
        if found is not None:
            self._pairs[replica] = self._pairs[replica] - found.pairs if pending else 0.0

    def cleared(self, replica: str) -> None:
        super().cleared(replica)
        self._adapters.forget(replica)

    def gone(self, replica: str) -> None:
        super().gone(replica)
        self._speeds.gone(replica)
        self._adapters.forget(replica)
        self._pending.pop(replica, None)
        self._pairs.pop(replica, None)
