"""Figures of a replay: allocation, waiting, slowdown, fairness, what was stopped, and how long it all took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from skerry.model.tier import Tier
from skerry.simulate.outcome import Life, Outcome
from skerry.simulate.trace import Totals, Trace, demand, sizes, stays

LARGE_FRACTION: Final = 0.01
"""The largest one in a hundred are `large`, all others `small`."""
SLOWDOWN_LEAST_S: Final = 10.0
"""Shorter work counts as if it ran so long (bounded slowdown): a second's wait is no harm to a second's work."""

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Shares:
    """Of the nodes'. None: they have none of it, or there was no time."""

    cpu: float | None
    memory: float | None
    gpu: float | None


@dataclass(frozen=True)
class Waits:
    """Seconds from arrival to the first start. What never started counts with what it has waited so far."""

    jobs: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class Slowdowns:
    """(end - arrival) over what it runs, of work that ended."""

    jobs: int
    mean: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Figures:
    name: str
    jobs: int
    ended: int
    waiting_at_end: int
    never_fit: int
    allocated_mean: Shares
    """From the first arrival to the last."""
    allocated_at_last_arrival: Shares
    allocated_at_end: Shares | None
    """Where work stays; else nothing is allocated then."""
    utilisation: float | None
    """Work that was not for nothing, of the resource that is asked most, from the first arrival to the last."""
    fragmentation_mean: float | None
    """Of the free accelerators, what typical work cannot use (F of FGD)."""
    fragmentation_at_last: float | None
    waiting: Waits | None
    waiting_by_size: dict[str, Waits]
    waiting_by_tier: dict[str, Waits]
    slowdown: Slowdowns | None
    slowdown_by_size: dict[str, Slowdowns]
    fairness_index: float | None
    """Jain's, over projects that waited at the same time."""
    fairness_worst: float | None
    """Least of an equal share that a project had while it waited."""
    fairness_worst_project: str | None
    project_shares: dict[str, float]
    """Mean dominant share of each, from the first arrival to the end."""
    preemptions: int
    work_lost_s: float
    """Seconds that work ran for nothing."""
    work_lost_share: float | None
    """Of all resource-seconds of the resource that is asked most."""
    queue_max: int
    makespan_s: float | None
    """From the first arrival to the last end. None: some of it stays, or never started."""
    passes: int
    starts: int
    backfilled: int
    wall: dict[str, float] = field(default_factory=dict[str, float])
    """Of the machine that simulated: seconds, decisions per second, milliseconds of a pass."""


def figures(trace: Trace, outcome: Outcome) -> Figures:
    lives, whole = outcome.lives, outcome.whole
    large, waits = is_large(trace), waits_s(outcome)
    asked = np.array([not life.never for life in lives])
    slowdowns = np.array([_slowdown(life) for life in lives])
    window_s = outcome.last_arrival_s or 0.0
    used_s, at_last = outcome.used_s_at_last_arrival, outcome.used_at_last_arrival
    lost_s, lost_share, utilisation = _useful(trace, outcome, window_s)
    index, worst = outcome.fairness.index, outcome.fairness.worst
    ended = sum(life.end_s is not None for life in lives)
    started = sum(life.first_start_s is not None for life in lives)
    return Figures(
        name=outcome.name,
        jobs=len(lives),
        ended=ended,
        waiting_at_end=int(asked.sum()) - started,
        never_fit=int((~asked).sum()),
        allocated_mean=_shares(Totals(*(part / window_s for part in used_s.parts)) if window_s else None, whole),
        allocated_at_last_arrival=_shares(at_last, whole),
        allocated_at_end=_at_end(trace, outcome),
        utilisation=utilisation,
        fragmentation_mean=_mean([share for _, share in outcome.fragmentation]),
        fragmentation_at_last=_fragmentation_at(outcome, window_s),
        waiting=_waits(waits[asked]),
        waiting_by_size=_by_size(_waits, waits, asked, large),
        waiting_by_tier=_by_tier(lives, waits, asked),
        slowdown=_slowdowns(slowdowns[~np.isnan(slowdowns)]),
        slowdown_by_size=_by_size(_slowdowns, slowdowns, ~np.isnan(slowdowns), large),
        fairness_index=index,
        fairness_worst=worst[1] if worst else None,
        fairness_worst_project=worst[0] if worst else None,
        project_shares=_project_shares(trace, outcome),
        preemptions=outcome.evictions,
        work_lost_s=lost_s,
        work_lost_share=lost_share,
        queue_max=outcome.waiting_max,
        makespan_s=outcome.end_s if ended == int(asked.sum()) else None,
        passes=outcome.passes,
        starts=outcome.starts,
        backfilled=outcome.backfilled,
    )


def is_large(trace: Trace) -> NDArray[np.bool_]:
    """Of each arrival."""
    found = np.array(sizes(trace))
    large = np.zeros(len(found), bool)
    if len(found):
        count = max(1, round(len(found) * LARGE_FRACTION))
        large[np.argsort(found, kind="stable")[-count:]] = True
    return large


def waits_s(outcome: Outcome) -> Floats:
    """Of each arrival, to its first start, or until now."""
    return np.array([_wait_s(life, outcome.end_s) for life in outcome.lives])


def _wait_s(life: Life, end_s: float) -> float:
    begun_s = end_s if life.first_start_s is None else life.first_start_s
    return max(0.0, begun_s - life.arrival.work.submitted_s)


def _slowdown(life: Life) -> float:
    if life.end_s is None:
        return math.nan
    counted_s = max(life.arrival.runs_s, SLOWDOWN_LEAST_S)
    return max(1.0, (life.end_s - life.arrival.work.submitted_s) / counted_s)


def _waits(waits: Floats) -> Waits | None:
    if not len(waits):
        return None
    p50, p90, p99 = (float(found) for found in np.percentile(waits, [50, 90, 99]))
    return Waits(len(waits), float(waits.mean()), p50, p90, p99, float(waits.max()))


def _slowdowns(found: Floats) -> Slowdowns | None:
    if not len(found):
        return None
    p50, p99 = (float(each) for each in np.percentile(found, [50, 99]))
    return Slowdowns(len(found), float(found.mean()), p50, p99)


def _by_size(
    summed: Callable[[Floats], T | None], values: Floats, counted: NDArray[np.bool_], large: NDArray[np.bool_]
) -> dict[str, T]:
    found = {"small": summed(values[counted & ~large]), "large": summed(values[counted & large])}
    return {name: each for name, each in found.items() if each is not None}


def _by_tier(lives: Sequence[Life], waits: Floats, counted: NDArray[np.bool_]) -> dict[str, Waits]:
    tiers = np.array([life.arrival.work.tier.value for life in lives])
    found = {tier.value: _waits(waits[counted & (tiers == tier.value)]) for tier in Tier}
    return {name: each for name, each in found.items() if each is not None}


def _shares(part: Totals | None, whole: Totals) -> Shares:
    if part is None:
        return Shares(None, None, None)
    pairs = zip(part.parts, whole.parts, strict=True)
    return Shares(*(one / all_of_it if all_of_it else None for one, all_of_it in pairs))


def _at_end(trace: Trace, outcome: Outcome) -> Shares | None:
    if not stays(trace.arrivals) or not outcome.series.samples:
        return None
    last = outcome.series.samples[-1]
    return Shares(last.cpu, last.memory, last.gpu if outcome.whole.gpu_milli else None)


def _useful(trace: Trace, outcome: Outcome, window_s: float) -> tuple[float, float | None, float | None]:
    """(seconds lost, share of all that was used that this is, useful part of what the nodes had): of the resource that
    is asked most."""
    whole = outcome.whole
    lost_s = sum(life.lost_s for life in outcome.lives)
    if not window_s or stays(trace.arrivals):
        return lost_s, None, None
    sums = np.zeros((3, 3))  # resource; asked in all, useful in the window, lost
    for life in outcome.lives:
        begun_s = life.last_start_s
        within_s = 0.0
        if begun_s is not None and life.end_s is not None:
            within_s = max(0.0, min(life.end_s, window_s) - begun_s)
        seconds = np.array([life.arrival.runs_s, within_s, life.lost_s])
        sums += np.outer(demand(life.arrival.work).parts, seconds)
    all_of_it = np.array(whole.parts)
    asked = np.divide(sums[:, 0], all_of_it, out=np.zeros(3), where=all_of_it > 0)
    most = int(asked.argmax())
    if not sums[most, 0]:
        return lost_s, None, None
    lost_share = float(sums[most, 2] / (sums[most, 0] + sums[most, 2]))
    return lost_s, lost_share, float(sums[most, 1] / all_of_it[most] / window_s)


def _project_shares(trace: Trace, outcome: Outcome) -> dict[str, float]:
    samples = outcome.series.samples
    span_s = samples[-1].moment_s - samples[0].moment_s if samples else 0.0
    found: dict[str, float] = {arrival.work.project: 0.0 for arrival in trace.arrivals}
    for sample, after in pairwise(samples):
        for project, share in sample.projects.items():
            found[project] += share * (after.moment_s - sample.moment_s) / span_s if span_s else 0.0
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _fragmentation_at(outcome: Outcome, moment_s: float) -> float | None:
    seen = [share for when_s, share in outcome.fragmentation if when_s <= moment_s]
    return seen[-1] if seen else None


def _mean(found: Sequence[float]) -> float | None:
    return sum(found) / len(found) if found else None
