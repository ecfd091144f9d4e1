"""random: drawn by lot, with chances as weights say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random

from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.memoryless import Memoryless
from skerry.gateway.routing.turns import share


def draw(candidates: Sequence[Candidate], among: Sequence[int], chance: Random) -> int:
    """An index out of `among`. The order in which candidates come does not matter."""
    order = sorted(among, key=lambda i: candidates[i].id)
    return chance.choices(order, cum_weights=list(accumulate(share(candidates[i]) for i in order)))[0]


class ByLot(Memoryless):
    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._chance = Random(seed)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        return Choice(draw(candidates, range(len(candidates)), self._chance), "drawn by lot")
