"""Work made up after what Google tells of Borg: a tail so heavy that one job in a hundred is 99 % of the load.

Sizes, in core-seconds, are Pareto's with a = 0.7; work comes in bursts, of five tiers, from projects of very unequal
size (Tirmazi et al., "Borg: the Next Generation", EuroSys 2020). A sample of some thousands does not reach so far into
the tail that its largest hundredth makes up its share, so these are made larger together until it does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from skerry.model.tier import Tier
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node, Work
from skerry.simulate.trace import GIB, Arrival, arrive_in_order

NODE = Node("node", cpu_milli=32_000, memory_bytes=128 * GIB)
LARGE_FRACTION: Final = 0.01
"""Of the jobs."""
LARGE_SHARE: Final = 0.99
"""Of the load, that these are."""
TAIL: Final = 0.7
"""Pareto's a."""
SMALLEST_CORE_S: Final = 20.0
SPREAD: Final = 300.0
"""The largest of the large, beside the least of them, at most."""
LARGEST: Final = 0.1
"""Of the load, that a single job is at most: a trace that is mostly one job says nothing of others."""
WIDEST: Final = 0.4
"""Of all cores, that the largest job takes at once. The others' width goes with the root of their size."""
MEMBER_CORES: Final = 8
SMALL_CORES: Final = ((0.5, 0.35), (1.0, 0.35), (2.0, 0.15), (4.0, 0.1), (8.0, 0.05))
"""(cores, how often)."""
GIB_PER_CORE: Final = (1, 4)
PROJECTS: Final = 12
USERS: Final = 4
"""Of each project."""
TIERS: Final = ((Tier.FREE, 0.1), (Tier.BEST_EFFORT, 0.45), (Tier.MID, 0.1), (Tier.PRODUCTION, 0.35))
DECLARED: Final = (1.0, 4.0)
"""max_duration, in times of what it will run: people guess, and guess high."""
BURST_TAIL: Final = 1.1
BURST_MAX: Final = 0.02
"""Of all jobs, that come in the largest burst."""
INTERVAL_S: Final = 60.0
"""Between arrivals, on average, until a load is set."""

Floats = NDArray[np.float64]


def generate(seed: int, count: int, nodes: tuple[Node, ...]) -> tuple[Arrival, ...]:
    """The same for the same seed, count and nodes. How fast it arrives, `at_load` says."""
    draw = np.random.default_rng(seed)
    core_s, large = _sizes(draw, count)
    bursts, moments_s = _bursts(draw, count)
    cores_all = sum(node.cpu_milli for node in nodes) / 1000
    widest = core_s.max() if large.any() else 1.0
    small_cores = draw.choice([cores for cores, _ in SMALL_CORES], count, p=[often for _, often in SMALL_CORES])
    gib = draw.integers(GIB_PER_CORE[0], GIB_PER_CORE[1], count, endpoint=True)
    declared = draw.uniform(*DECLARED, count)
    owners = _owners(draw, int(bursts.max()) + 1)
    arrivals: list[Arrival] = []
    for at in range(count):
        cores, members = float(small_cores[at]), 1
        if large[at]:
            width = cores_all * WIDEST * float(np.sqrt(core_s[at] / widest))
            cores, members = float(MEMBER_CORES), max(1, round(width / MEMBER_CORES))
        runs_s = max(1.0, float(core_s[at]) / (cores * members))
        shape = Shape(round(cores * 1000), round(cores * int(gib[at]) * GIB))
        project, user, tier = owners[int(bursts[at])]
        name = f"job-{at}"
        work = Work(
            name,
            tuple((f"{name}-{rank}", shape) for rank in range(members)) if members > 1 else ((name, shape),),
            project=project,
            user=user,
            tier=tier,
            submitted_s=float(moments_s[at]),
            limit_s=runs_s * float(declared[at]),
        )
        arrivals.append(Arrival(work, runs_s))
    return arrive_in_order(arrivals)


def _sizes(draw: np.random.Generator, count: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(core-seconds of each, which are large), in random order. By strata, so that a sample is like any other."""
    large_count = max(1, round(count * LARGE_FRACTION))
    small_count = count - large_count
    border = SMALLEST_CORE_S * LARGE_FRACTION ** (-1 / TAIL)
    small = _pareto(draw, small_count, SMALLEST_CORE_S, border)
    large = _pareto(draw, large_count, border, border * _spread(large_count))
    if small_count:
        large *= max(1.0, LARGE_SHARE / (1 - LARGE_SHARE) * small.sum() / large.sum())
    order = draw.permutation(count)
    is_large = np.concatenate((np.zeros(small_count, bool), np.ones(large_count, bool)))
    return np.concatenate((small, large))[order], is_large[order]


def _spread(count: int) -> float:
    """As wide as so many can be without one of them being too much of all."""
    spread = SPREAD
    while spread > 1.1:
        mean = TAIL / (1 - TAIL) * (spread ** (1 - TAIL) - 1) / (1 - spread**-TAIL)
        if spread <= LARGEST * count * mean:
            break
        spread /= 1.1
    return spread


def _pareto(draw: np.random.Generator, count: int, least: float, most: float, tail: float = TAIL) -> Floats:
    """Between `least` and `most`, one in each of `count` strata of equal chance."""
    chance = (np.arange(count) + draw.random(count)) / max(1, count)
    return least * (1 - chance * (1 - (most / least) ** -tail)) ** (-1 / tail)


def _bursts(draw: np.random.Generator, count: int) -> tuple[NDArray[np.int64], Floats]:
    """(burst of each job, when it comes): a burst is of one user, and all of it comes within seconds."""
    largest = max(2.0, count * BURST_MAX)
    lengths = np.floor(draw.permutation(_pareto(draw, count, 1.0, largest, BURST_TAIL))).astype(np.int64)
    bursts = np.repeat(np.arange(count), lengths)[:count]
    begin_s = draw.random(int(bursts.max()) + 1) * count * INTERVAL_S
    return bursts, begin_s[bursts] + draw.exponential(INTERVAL_S / 20, count)


def _owners(draw: np.random.Generator, bursts: int) -> list[tuple[str, str, Tier]]:
    """(project, user, tier) of each burst; the n-th project has 1/n of the first one's."""
    weights = 1 / np.arange(1, PROJECTS + 1)
    projects = draw.choice(PROJECTS, bursts, p=weights / weights.sum())
    users = draw.integers(0, USERS, bursts)
    tiers = draw.choice(len(TIERS), bursts, p=[often for _, often in TIERS])
    return [
        (f"project-{project + 1}", f"user-{project + 1}-{user + 1}", TIERS[tier][0])
        for project, user, tier in zip(projects, users, tiers, strict=True)
    ]
