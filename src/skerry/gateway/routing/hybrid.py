"""hybrid: Ray Serve LLM's prefix-aware router, as its code has it (ray 2.60).

Power of two where queues differ by more than a threshold, which is infinite unless it is set; else the replicas with
the longest match, or with the smallest trees where that is less than a tenth of the prompt; of those power of two.
Ours matches blocks where Ray's matches characters, and forgets what was used longest ago where Ray's keeps all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.power_of_two import of_two
from skerry.gateway.routing.prefix_index import PrefixIndex
from skerry.gateway.routing.remembering import Remembering
from skerry.gateway.routing.spans import tokens_of

MATCH_RATE_MIN: Final = 0.1
IMBALANCED: Final = math.inf


class Hybrid(Remembering):
    name = "hybrid"

    def __init__(self, seed: int = 0, imbalanced: float = IMBALANCED, index: PrefixIndex | None = None) -> None:
        super().__init__(index)
        self._chance = Random(seed)
        self._imbalanced = imbalanced

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        matched = self.matched(ask, candidates)
        everyone = range(len(candidates))
        queues = [candidate.in_flight for candidate in candidates]
        if not ask.blocks or max(queues) - min(queues) > self._imbalanced:
            at = of_two(candidates, everyone, self._chance)
            return Choice(at, "the better of two: queues differ" if ask.blocks else "the better of two", matched[at])
        longest = max(matched)
        if tokens_of(longest) >= MATCH_RATE_MIN * tokens_of(len(ask.blocks)):
            at = of_two(candidates, [i for i in everyone if matched[i] == longest], self._chance)
            return Choice(at, f"prefix {longest}/{len(ask.blocks)} blocks", longest)
        kept = [self.index.kept(candidate.id) for candidate in candidates]
        at = of_two(candidates, [i for i in everyone if kept[i] == min(kept)], self._chance)
        return Choice(at, "no prefix, has the fewest", matched[at])
