"""How much a replica has to do, as one number that replicas are compared by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skerry.gateway.routing.contract import Candidate
from skerry.gateway.routing.turns import Turns, share


def load(candidate: Candidate) -> float:
    """Requests for each part of weight. What the engine says counts too: it may serve others than us."""
    return max(candidate.in_flight, candidate.waiting + candidate.running) / share(candidate)


def least(candidates: Sequence[Candidate], turns: Turns, among: Iterable[int] | None = None) -> int:
    """Of those with the least load, the one whose turn it is."""
    at = list(range(len(candidates)) if among is None else among)
    loads = [load(candidates[i]) for i in at]
    lowest = min(loads)
    return turns.next(candidates, [i for i, found in zip(at, loads, strict=True) if found <= lowest])
