"""What each user has used, the past counting less and less, as the queue's half-life says: what fair shares go by."""

from __future__ import annotations

import math

from skerry.simulate.books import Owner

FORGOTTEN = 1e-9


class History:
    """A dominant share times seconds, over the half-life."""

    def __init__(self, half_life_s: float | None) -> None:
        self._half_life_s = half_life_s
        self._used: dict[Owner, float] = {}

    def pass_by(self, passed_s: float, shares: dict[Owner, float]) -> None:
        """So much time, in which each had these shares."""
        if not self._half_life_s or passed_s <= 0:
            return
        kept = 0.5 ** (passed_s / self._half_life_s)
        gained = (1 - kept) / math.log(2)
        used = {owner: was * kept for owner, was in self._used.items()}
        for owner, share in shares.items():
            used[owner] = used.get(owner, 0.0) + share * gained
        self._used = {owner: amount for owner, amount in used.items() if amount > FORGOTTEN}

    def of(self, queue: str) -> dict[tuple[str, str, str], float]:
        return {(queue, project, user): amount for (project, user), amount in self._used.items()}
