"""auto: where a request costs the fewest seconds, its own and those that it takes from others.

    wait         prompts ahead of it there, at the speed at which that replica was seen to read them
    + prefill    of what is not cached there, times (1 + others / sharers)
    + eviction   of what it pushes out there, by how likely that is asked for again, times (16 + others), at the mean
                 speed of all where it is quicker: what a quick replica has forgotten may be read by a slow one
    + load       of who is answered there and comes back

`others` is who waits behind it: a second of work that a cache would have saved is a second more for everybody in the
queue, so it grows with the queue. With nobody waiting an idle replica may as well compute a prompt again; in an
overload caches decide, since work saved is what brings the queue down. What a replica is behind the others counts more
then, too: with `others` alone one queue would grow to twice the next before anybody left it.

`sharers` is how many prompts had the last block that matches. The end of a conversation had one, and whoever moves it
computes all of it again for nobody else. A system prompt had hundreds: one more replica that has it soon pays off, so
that popular beginnings spread as load wants it, and conversations stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skerry.gateway.routing.attention import uncached
from skerry.gateway.routing.contract import BLOCK_TOKENS, Ask, Candidate, Choice
from skerry.gateway.routing.predicting import Outlook, Predicting
from skerry.gateway.routing.prefix_index import PrefixIndex
from skerry.gateway.routing.remembering import REMEMBERED
from skerry.gateway.routing.turnover import Turnover

OTHERS_LEAST: Final = 3.0
"""Also with an empty queue: whoever comes in the next moment waits too, and later turns come back to the cache."""
OTHERS_EACH: Final = 4.0
"""For each that waits at a replica, on average: more than one, as who comes until the queue is gone waits as well."""
OTHERS_MAX: Final = 100.0
"""With more than this a queue would not be balanced at all."""
GROWS: Final = 4.0
"""Times its uncached blocks, that what comes in pushes out in the end: with each turn it brings more."""
OTHERS_LATER: Final = 16.0
"""`others` for what is pushed out, with an empty queue: it is asked for later, by more than one turn of its own."""
FULL: Final = 0.5
"""Of a cache, from where on something is pushed out, more and more; answers, which are not counted, fill it too."""
COMES_BACK: Final = 0.25
"""Usual prompts that one who is being answered stands for. It also keeps the memory of replicas evenly used."""
EVEN: Final = 4.0
"""Times what a replica's wait is above the mean, relative to it, that such a wait counts more in the deepest queue."""
SAME_S: Final = 1e-6


class Auto(Predicting):
    name = "auto"

    def __init__(self, index: PrefixIndex | None = None) -> None:
        super().__init__(index)
        self._turnover = Turnover()
        self._longest: tuple[Ask, int] | None = None

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        outlooks = self.outlook(ask, candidates, now_s)
        costs = self._costs(ask, candidates, outlooks, now_s)
        lowest = min(costs)
        at = self._turns.next(candidates, [i for i, cost in enumerate(costs) if cost <= lowest + SAME_S])
        found = outlooks[at]
        self._longest = (ask, max(outlook.matched for outlook in outlooks))
        return self.choose(ask, candidates, at, found, f"{found.wait_s + found.prefill_s:.3f} s to begin")

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        super().routed(ask, replica, now_s)
        longest, self._longest = self._longest, None
        matched = longest[1] if longest is not None and longest[0] is ask else 0
        self._turnover.routed(ask, matched, replica, self.new_blocks + ask.answer_tokens // BLOCK_TOKENS, now_s)

    def gone(self, replica: str) -> None:
        super().gone(replica)
        self._turnover.gone(replica)

    def _costs(
        self, ask: Ask, candidates: Sequence[Candidate], outlooks: Sequence[Outlook], now_s: float
    ) -> list[float]:
        pending = sum(self.ahead(candidate) for candidate in candidates) / len(candidates)
        others = min(OTHERS_MAX, OTHERS_LEAST + OTHERS_EACH * pending / self.usual_work)
        prefill_times = 1 + others / self._sharers(ask, candidates, outlooks)
        come_back = COMES_BACK * self.usual_work
        fleet_s = self._speeds.fleet_s_per_token
        mean_s = sum(outlook.wait_s for outlook in outlooks) / len(outlooks)
        even = EVEN * (others / OTHERS_MAX) ** 2
        costs: list[float] = []
        for candidate, (matched, wait_s, prefill_s) in zip(candidates, outlooks, strict=True):
            if wait_s > mean_s:
                wait_s += even * wait_s * (wait_s / mean_s - 1)
            s_per_token = self._speeds.s_per_token(candidate)
            pushed_out = uncached(ask, matched) * GROWS * self._pushed_out(candidate, now_s)
            evicted_s = pushed_out * max(s_per_token, fleet_s) * (OTHERS_LATER + others)
            come_back_s = come_back * s_per_token * candidate.in_flight
            costs.append(wait_s + prefill_s * prefill_times + evicted_s + come_back_s)
        return costs

    def _pushed_out(self, candidate: Candidate, now_s: float) -> float:
        """How likely a block that goes there makes one go that is asked for again."""
        cache = self.index.capacity(candidate.id) / REMEMBERED
        full = min(1.0, max(0.0, self.index.kept(candidate.id) / cache - FULL) / (1 - FULL))
        if not full:
            return 0.0
        spare = max(0.0, cache - candidate.decode_tokens / BLOCK_TOKENS)  # what is in use is not pushed out
        return full * self._turnover.wanted(candidate.id, spare, now_s)

    def _sharers(self, ask: Ask, candidates: Sequence[Candidate], outlooks: Sequence[Outlook]) -> int:
        """Prompts that had the last block which is found anywhere."""
        longest = max(outlook.matched for outlook in outlooks)
        if not longest:
            return 1
        last = ask.blocks[longest - 1]
        holders = [candidates[i].id for i, outlook in enumerate(outlooks) if outlook.matched == longest]
        return max(1, *(self.index.uses(replica, last) for replica in holders))
