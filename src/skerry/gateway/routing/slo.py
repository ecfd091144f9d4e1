"""slo: of the replicas that are predicted to begin in time, the one where the request adds the least work.

So replicas that are fast or free are kept for who needs them. Where nobody is in time, whoever is the least late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import load
from skerry.gateway.routing.predicting import Predicting

TTFT_S: Final = 1.0
"""Where neither the request nor the service says what is in time."""
MARGIN: Final = 0.8
"""Of the objective: predictions err, by about so much."""


class Slo(Predicting):
    name = "slo"

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        outlooks = self.outlook(ask, candidates, now_s)
        most_s = MARGIN * (ask.ttft_s or TTFT_S)
        begins_s = [outlook.wait_s + outlook.prefill_s for outlook in outlooks]
        in_time = [i for i, begin_s in enumerate(begins_s) if begin_s <= most_s]
        if in_time:
            keys = [(round(outlooks[i].prefill_s, 3), load(candidates[i])) for i in in_time]
        else:
            in_time = list(range(len(candidates)))
            keys = [(round(begin_s, 3), 0.0) for begin_s in begins_s]
        lowest = min(keys)
        at = self._turns.next(candidates, [i for i, key in zip(in_time, keys, strict=True) if key == lowest])
        told = "in time" if begins_s[at] <= most_s else "the least late"
        return self.choose(ask, candidates, at, outlooks[at], f"{told}, {begins_s[at]:.3f} s to begin")
