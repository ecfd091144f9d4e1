"""The most load that keeps objectives, with few requests: double until it does not, then halve what lies between.

A trial ends early where it can only fail: of 200 requests three that took too long break a 99th percentile. Rates are
compared as ratios, so what is searched is as exact at 2 a second as at 2,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from skerry.bench import run as running
from skerry.bench.contract import Record
from skerry.bench.frame import frame_of
from skerry.bench.measure.slo import Objective
from skerry.bench.measure.summary import Summary, summarize
from skerry.bench.plan import Plan

ERRORS_MAX = 0.01
"""Share of requests that may fail, where no objective says."""
TRIALS_MAX = 40
DOWN_MAX = 100
"""Less than the start by this, nothing is tried: load is not the reason, and slow rates take long to fail."""


@dataclass(frozen=True)
class Trial:
    load: float
    kept: bool
    stopped: bool
    """Early, for it could only fail."""
    summary: Summary


class Doomed:
    """Told of each record as it comes; true when the objectives cannot be kept any more."""

    def __init__(self, objectives: Sequence[Objective], requests: int) -> None:
        limits = [(each, _breaches_allowed(each, requests)) for each in objectives]
        self._limits = [(each, allowed) for each, allowed in limits if allowed is not None]
        self._breaches = [0] * len(self._limits)
        self._failed = 0
        self._failed_max = math.floor(requests * ERRORS_MAX)

    def __call__(self, record: Record) -> bool:
        self._failed += not record.ok
        if record.ok:
            frame = frame_of([record])
            for at, (objective, _) in enumerate(self._limits):
                self._breaches[at] += not objective.kept_by(frame)[0]
        over = any(found > allowed for found, (_, allowed) in zip(self._breaches, self._limits, strict=True))
        return over or self._failed > self._failed_max


def _breaches_allowed(objective: Objective, requests: int) -> int | None:
    """None: nothing is known before the end."""
    if not objective.below or objective.metric in ("error_rate", "itl", "drift") or objective.at == "mean":
        return None
    share = 0.0 if objective.at == "max" else 0.01 if not objective.at else 1 - float(objective.at[1:]) / 100
    return math.floor(requests * share) + 1


def trial(plan: Plan, load: float, requests: int, objectives: Sequence[Objective]) -> Trial:
    """Raises as `run` does."""
    doomed = Doomed(objectives, requests)
    stopped = False

    def enough(record: Record) -> bool:
        nonlocal stopped
        stopped = stopped or doomed(record)
        return stopped

    frame = running.counted(plan, running.run(plan, enough=enough))
    summary = summarize(frame, objectives)
    kept = not stopped and all(each.kept for each in summary.objectives)
    return Trial(load, kept and summary.rates.get("error_rate", 1.0) <= ERRORS_MAX, stopped, summary)


def most(attempt: Callable[[float], Trial], start: float, most_load: float, precision: float) -> Iterator[Trial]:
    """The trials that find it. `precision`: 0.05 ends with one kept and one failed that are 5 % apart."""
    kept: float | None = None
    failed: float | None = None
    load = start
    for _ in range(TRIALS_MAX):
        found = attempt(load)
        yield found
        if found.kept:
            kept = load
        else:
            failed = load
        if kept is not None and (kept >= most_load or (failed is not None and failed / kept <= 1 + precision)):
            return
        if kept is None:
            load /= 4
            if load < start / DOWN_MAX:
                return
        elif failed is None:
            load = min(load * 2, most_load)
        else:
            load = math.sqrt(kept * failed)


def best(trials: Sequence[Trial]) -> Trial | None:
    return max((each for each in trials if each.kept), key=lambda each: each.load, default=None)


def knee(trials: Sequence[Trial]) -> Trial | None:
    """Where a little more throughput begins to cost much latency: the most of throughput over latency (Kleinrock's
    power, ICC 1979)."""
    power = {
        at: each.summary.rates["requests_per_second"] / each.summary.metrics["e2e"].percentiles["p50"]
        for at, each in enumerate(trials)
        if "e2e" in each.summary.metrics
    }
    return trials[max(power, key=lambda at: power[at])] if power else None
