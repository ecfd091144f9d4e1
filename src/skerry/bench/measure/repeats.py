"""What repeated runs agree on: the mean of a figure over them, and the interval in which the true one lies.

Student's t with two sides of 2.5 %: few runs give wide intervals, as they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skerry.bench.measure.summary import Summary

T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
"""By degrees of freedom from 1; more than these come to the last and below, by at most 8 %."""


@dataclass(frozen=True)
class Interval:
    mean: float
    half: float
    """Of its width: with 95 % confidence the true one is no further from the mean."""


def intervals(summaries: Sequence[Summary]) -> dict[str, Interval]:
    """By `ttft_p99`, `requests_per_second` and so on. None of a single run."""
    if len(summaries) < 2:
        return {}
    each = [figures(summary) for summary in summaries]
    names = [name for name in each[0] if all(name in other for other in each)]
    return {name: _interval([other[name] for other in each]) for name in names}


def figures(summary: Summary) -> dict[str, float]:
    """Flat: rates, and the mean, p50, p90, p95 and p99 of every metric."""
    found = dict(summary.rates)
    for name, spread in summary.metrics.items():
        found[f"{name}_mean"] = spread.mean
        found |= {f"{name}_{at}": spread.percentiles[at] for at in ("p50", "p90", "p95", "p99")}
    return found


def _interval(values: Sequence[float]) -> Interval:
    t = T[min(len(values) - 1, len(T)) - 1]
    return Interval(float(np.mean(values)), float(t * np.std(values, ddof=1) / len(values) ** 0.5))
