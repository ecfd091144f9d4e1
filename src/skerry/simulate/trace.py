"""A trace as a replay wants it: work in the order of its arrival, with how long each runs, and the nodes for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skerry.errors import Invalid
from skerry.model.resources import GPU_MILLI
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Device, Node, Work

JOBS_MAX = 1_000_000
NODES_MAX = 100_000
LOAD_USUAL = 0.8
"""Mean demand over what the nodes have, where neither nodes nor load are given: busy, and not hopeless."""
MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Arrival:
    work: Work
    runs_s: float
    """From its start to its end. Infinite: it stays."""


@dataclass(frozen=True)
class Trace:
    name: str
    nodes: tuple[Node, ...]
    arrivals: tuple[Arrival, ...]
    """By the time of their arrival; the first comes at 0."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of nodes, or of what work asks."""

    cpu_milli: float
    memory_bytes: float
    gpu_milli: float

    @property
    def parts(self) -> tuple[float, float, float]:
        return self.cpu_milli, self.memory_bytes, self.gpu_milli

    def share_of(self, whole: Totals) -> float:
        """The dominant one. Of what the whole does not have, nothing can be asked."""
        pairs = zip(self.parts, whole.parts, strict=True)
        return max(part / all_of_it if all_of_it else 0.0 for part, all_of_it in pairs)


NOTHING = Totals(0, 0, 0)


def gpu_asked(shape: Shape) -> int:
    return shape.gpu_count * shape.gpu_milli


def capacity(nodes: Sequence[Node]) -> Totals:
    return Totals(
        sum(node.cpu_milli for node in nodes),
        sum(node.memory_bytes for node in nodes),
        sum(len(node.devices) * GPU_MILLI for node in nodes),
    )


def demand(work: Work) -> Totals:
    shapes = [shape for _, shape in work.members]
    return Totals(
        sum(shape.cpu_milli for shape in shapes),
        sum(shape.memory_bytes for shape in shapes),
        sum(gpu_asked(shape) for shape in shapes),
    )


def arrive_in_order(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    """The first at 0."""
    ordered = sorted(arrivals, key=lambda arrival: (arrival.work.submitted_s, arrival.work.id))
    begin_s = ordered[0].work.submitted_s if ordered else 0.0
    return tuple(_at(arrival, arrival.work.submitted_s - begin_s) for arrival in ordered)


def stays(arrivals: Sequence[Arrival]) -> bool:
    """Whether any of it never ends."""
    return any(math.isinf(arrival.runs_s) for arrival in arrivals)


def sizes(trace: Trace) -> list[float]:
    """Of each: its dominant share times the seconds that it runs; where some of it stays, its share alone."""
    whole = capacity(trace.nodes)
    timed = not stays(trace.arrivals)
    return [demand(arrival.work).share_of(whole) * (arrival.runs_s if timed else 1.0) for arrival in trace.arrivals]


def mean_demand(arrivals: Sequence[Arrival]) -> Totals:
    """Resource-seconds asked, over the time in which work arrives."""
    span_s = arrivals[-1].work.submitted_s - arrivals[0].work.submitted_s if arrivals else 0.0
    if span_s <= 0 or stays(arrivals):
        raise Invalid(
            "there is no mean demand in it, since it all arrives at once or some of it never ends; "
            "give --nodes, and no --load"
        )
    sums = [0.0, 0.0, 0.0]
    for arrival in arrivals:
        for at, part in enumerate(demand(arrival.work).parts):
            sums[at] += part * arrival.runs_s
    return Totals(*(part / span_s for part in sums))


def at_load(trace: Trace, load: float) -> Trace:
    """The same work, arriving quicker or slower, so that it asks on average `load` of what the nodes have."""
    factor = mean_demand(trace.arrivals).share_of(capacity(trace.nodes)) / load
    if factor <= 0:
        raise Invalid("--load: the work asks for nothing, so there is no load to set")
    arrivals = tuple(_at(arrival, arrival.work.submitted_s * factor) for arrival in trace.arrivals)
    return replace(trace, arrivals=arrivals)


def declaring(trace: Trace, factor: float) -> Trace:
    """Each says a max_duration of `factor` times what it will run; 0: none says one."""

    def limit_s(arrival: Arrival) -> float | None:
        return arrival.runs_s * factor if factor and math.isfinite(arrival.runs_s) else None

    arrivals = tuple(
        replace(arrival, work=replace(arrival.work, limit_s=limit_s(arrival))) for arrival in trace.arrivals
    )
    return replace(trace, arrivals=arrivals)


def staying(trace: Trace, seed: int) -> Trace:
    """The same work in an order drawn by lot, one a second, and none of it ends: how full do the nodes become?"""
    order: list[int] = np.random.default_rng(seed).permutation(len(trace.arrivals)).tolist()
    arrivals = [replace(_at(trace.arrivals[at], float(second)), runs_s=math.inf) for second, at in enumerate(order)]
    return replace(trace, arrivals=tuple(arrivals))


def alike(count: int, pattern: Node) -> tuple[Node, ...]:
    width = len(str(count - 1))
    return tuple(replace(pattern, id=f"{pattern.id}-{number:0{width}}") for number in range(count))


def enough(arrivals: Sequence[Arrival], pattern: Node, load: float = LOAD_USUAL) -> int:
    """How many such nodes have `load` to carry, and room for the widest gang."""
    one = capacity((pattern,))
    widest = max((len(arrival.work.members) for arrival in arrivals), default=1)
    return max(1, widest, math.ceil(mean_demand(arrivals).share_of(one) / load))


def accelerated(name: str, cores: int, memory_gib: int, devices: int, kind: str) -> Node:
    return Node(name, cores * 1000, memory_gib * GIB, devices=(Device(kind),) * devices)


def _at(arrival: Arrival, submitted_s: float) -> Arrival:
    return replace(arrival, work=replace(arrival.work, submitted_s=submitted_s))
