"""Whether two runs differ, or only seem to: intervals by bootstrap, and a test of ranks.

Bootstrap of the percentile's difference (Efron 1979): both runs drawn anew from themselves, a thousand times. The test
is Mann and Whitney's, with the normal approximation and ties counted (1947). Requests of one run are not quite
independent of each other, so a difference that barely shows should be seen again with `--repeat`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skerry.bench.frame import Floats

DRAWS = 1000
SAMPLES_MAX = 20_000
"""More of one metric are thinned to so many: ranks of millions say no more."""
CELLS_MAX = 2_000_000
BEYOND_MIN = 3
"""Samples that lie beyond a percentile: with fewer it is one or two requests drawn again and again, and nothing is told
of a 99th percentile of less than 300."""


@dataclass(frozen=True)
class Difference:
    at: str
    before: float
    after: float
    least: float
    most: float
    """With 95 % confidence the true difference is between these two."""
    enough: bool = True
    """There are as many samples as it takes to tell."""

    @property
    def is_real(self) -> bool:
        return self.enough and (self.least > 0 or self.most < 0)

    @property
    def share(self) -> float:
        return (self.after - self.before) / self.before if self.before else math.nan


def differences(before: Floats, after: Floats, seed: int = 0, at: tuple[str, ...] = ("p50", "p99")) -> list[Difference]:
    chance = np.random.default_rng(seed)
    levels = [float(each[1:]) for each in at]
    drawn = _percentiles(after, levels, chance) - _percentiles(before, levels, chance)
    least, most = np.percentile(drawn, (2.5, 97.5), axis=0)
    first, second = np.percentile(before, levels), np.percentile(after, levels)
    fewest = min(len(before), len(after))
    enough = [round(fewest * (100 - level) / 100, 6) >= BEYOND_MIN for level in levels]
    rows = zip(at, first.tolist(), second.tolist(), least.tolist(), most.tolist(), enough, strict=True)
    return [Difference(*row) for row in rows]


def _percentiles(values: Floats, levels: list[float], chance: np.random.Generator) -> Floats:
    """A row for each draw."""
    thin = _thinned(values, chance)
    rows = max(1, CELLS_MAX // len(thin))
    parts: list[Floats] = []
    for since in range(0, DRAWS, rows):
        picks = chance.integers(len(thin), size=(min(rows, DRAWS - since), len(thin)), dtype=np.int32)
        parts.append(np.percentile(thin[picks], levels, axis=1, overwrite_input=True).T)
    return np.concatenate(parts)


def _thinned(values: Floats, chance: np.random.Generator) -> Floats:
    return values if len(values) <= SAMPLES_MAX else chance.choice(values, SAMPLES_MAX, replace=False)


def ranks_p(before: Floats, after: Floats, seed: int = 0) -> float:
    """The chance that two like runs differ at least so much."""
    chance = np.random.default_rng(seed)
    first, second = _thinned(before, chance), _thinned(after, chance)
    n, m = len(first), len(second)
    _, which, counts = np.unique(np.concatenate((first, second)), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[which]
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    ties = float((counts.astype(float) ** 3 - counts).sum()) / ((n + m) * (n + m - 1)) if n + m > 1 else 0.0
    spread = math.sqrt(n * m / 12 * max(0.0, n + m + 1 - ties))
    return math.erfc(abs(u - n * m / 2) / spread / math.sqrt(2)) if spread else 1.0
