"""Whose turn it is: each replica gets its share, as even as can be at every moment (stride scheduling).

Every turn takes a replica 1/weight further, and the one that is least far is next. One that is new begins where the
least far stands, so that it does not catch up on turns it was not there for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from skerry.gateway.routing.contract import Candidate

WEIGHT_MIN: Final = 1e-6
"""What has no weight is given something only where nothing else is there."""
REPLICAS_MAX: Final = 4096
"""Remembered at once. Beyond it those are forgotten that are not candidates now."""


def share(candidate: Candidate) -> float:
    return max(candidate.weight, WEIGHT_MIN)


class Turns:
    def __init__(self) -> None:
        self._far: dict[str, float] = {}

    def next(self, candidates: Sequence[Candidate], among: Iterable[int] | None = None) -> int:
        """Index of the one whose turn it is, of those `among`; changes nothing."""
        self._meet(candidates)
        far = self._far
        at = range(len(candidates)) if among is None else among
        return min(at, key=lambda i: (far[candidates[i].id] + 1 / share(candidates[i]), candidates[i].id))

    def take(self, candidate: Candidate) -> None:
        self._far[candidate.id] = self._far.get(candidate.id, 0.0) + 1 / share(candidate)

    def _meet(self, candidates: Sequence[Candidate]) -> None:
        far = self._far
        new = [candidate.id for candidate in candidates if candidate.id not in far]
        if not new:
            return
        here = [far[candidate.id] for candidate in candidates if candidate.id in far]
        least = min(here, default=0.0)
        if len(far) + len(new) > REPLICAS_MAX:
            self._far = far = {candidate.id: far[candidate.id] for candidate in candidates if candidate.id in far}
        for replica in new:
            far[replica] = least

    def gone(self, replica: str) -> None:
        self._far.pop(replica, None)

    def __len__(self) -> int:
        return len(self._far)
