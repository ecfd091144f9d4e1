"""How evenly those who wait are served: Jain's index over the dominant shares of projects that want more.

Who wants nothing more has all that it asked for, and is left out. "A Quantitative Measure of Fairness", Jain, Chiu and
Hawe, DEC TR-301, 1984; dominant shares: Ghodsi et al., NSDI 2011.
"""

from __future__ import annotations

from collections.abc import Iterable


class Fairness:
    """Weighted by time: `pass_by` for each stretch in which nothing changed."""

    def __init__(self) -> None:
        self._index_s = 0.0
        self._seconds = 0.0
        self._of: dict[str, tuple[float, float]] = {}
        """Project -> (its share over an equal one, times seconds; seconds)."""

    def pass_by(self, passed_s: float, shares: dict[str, float], waiting: Iterable[str]) -> None:
        wanting = list(waiting)
        if passed_s <= 0 or len(wanting) < 2:
            return
        had = [shares.get(project, 0.0) for project in wanting]
        total = sum(had)
        if not total:
            return
        self._index_s += passed_s * total * total / (len(had) * sum(share * share for share in had))
        self._seconds += passed_s
        equal = total / len(had)
        for project, share in zip(wanting, had, strict=True):
            was, seconds = self._of.get(project, (0.0, 0.0))
            self._of[project] = was + share / equal * passed_s, seconds + passed_s

    @property
    def index(self) -> float | None:
        """1: all had the same; 1/n: one had all. None: never did two wait at once."""
        return self._index_s / self._seconds if self._seconds else None

    @property
    def worst(self) -> tuple[str, float] | None:
        """The project that had least of an equal share while it waited, and how much of it."""
        found = {project: was / seconds for project, (was, seconds) in self._of.items()}
        project = min(found, key=lambda name: (found[name], name), default=None)
        return None if project is None else (project, found[project])
