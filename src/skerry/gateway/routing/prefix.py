"""prefix: where the longest beginning of the prompt is cached, unless that replica is busy out of proportion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import least, load
from skerry.gateway.routing.remembering import Remembering
from skerry.gateway.routing.spans import tokens_of

BUSY: Final = 1.25
"""Times the mean load, and `BUSY_MORE` requests: beyond it a replica is not given more because of its cache."""
BUSY_MORE: Final = 8.0
MATCH_MIN: Final = 0.25
"""Of the prompt. A line that all prompts begin with must not draw all of them to one replica."""


class Prefix(Remembering):
    name = "prefix"

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        matched = self.matched(ask, candidates)
        loads = [load(candidate) for candidate in candidates]
        most = BUSY * sum(loads) / len(loads) + BUSY_MORE
        free = [i for i, found in enumerate(loads) if found <= most] or list(range(len(candidates)))
        longest = max(matched[i] for i in free)
        enough = tokens_of(longest) > MATCH_MIN * tokens_of(len(ask.blocks))
        at = least(candidates, self._turns, [i for i in free if matched[i] == longest] if enough else free)
        self._turns.take(candidates[at])
        found = f"{matched[at]}/{len(ask.blocks)} blocks, {candidates[at].in_flight} in flight"
        return Choice(at, f"prefix {found}" if enough else f"least load, prefix {found}", matched[at])
