"""power-of-two: two drawn by lot, the one with less to do (Mitzenmacher 1996).

Where many gateways route without knowing of each other, the least loaded would be swamped by all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from skerry.gateway.routing.by_lot import draw
from skerry.gateway.routing.contract import Ask, Candidate, Choice
from skerry.gateway.routing.load import load
from skerry.gateway.routing.memoryless import Memoryless


def of_two(candidates: Sequence[Candidate], among: Sequence[int], chance: Random) -> int:
    first = draw(candidates, among, chance)
    others = [i for i in among if i != first]
    if not others:
        return first
    second = draw(candidates, others, chance)
    return second if load(candidates[second]) < load(candidates[first]) else first


class PowerOfTwo(Memoryless):
    name = "power-of-two"

    def __init__(self, seed: int = 0) -> None:
        self._chance = Random(seed)

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        at = of_two(candidates, range(len(candidates)), self._chance)
        return Choice(at, f"the better of two, {candidates[at].in_flight} in flight")
