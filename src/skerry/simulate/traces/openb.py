"""Pods and nodes in the columns of Alibaba's GPU trace of 2023 (Weng et al., "Beware of Fragmentation", USENIX ATC
2023), and in a few more that traces of one's own may have: project, user, tier, priority, max_duration."""

from __future__ import annotations

import math
from collections.abc import Iterable

from skerry.model.resources import GPU_MILLI
from skerry.model.tier import PRIORITY_DEFAULT, Tier
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Device, Node, Work
from skerry.simulate.trace import JOBS_MAX, MIB, NODES_MAX, Arrival, arrive_in_order
from skerry.simulate.traces.columns import Row, rows

PODS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
NODES = ("sn", "cpu_milli", "memory_mib", "gpu")
TIERS = {
    "LS": Tier.PRODUCTION,
    "Guaranteed": Tier.PRODUCTION,
    "Burstable": Tier.MID,
    "BE": Tier.BEST_EFFORT,
}
"""Of its `qos`."""
CPU_MILLI_MAX = 10_000_000
MEMORY_MIB_MAX = 2**40
GPUS_MAX = 64
TIME_S_MAX = 1e11
INTERVAL_S = 1.0
"""Between arrivals, where the file has no times: pods come one after another and stay."""


def read_pods(file: str, lines: Iterable[str]) -> tuple[Arrival, ...]:
    arrivals: list[Arrival] = []
    seen: set[str] = set()
    for number, row in enumerate(rows(file, lines, PODS, JOBS_MAX)):
        name = row.text("name")
        if name in seen:
            raise row.wrong("name", "each name is allowed once")
        seen.add(name)
        submitted_s, runs_s = _times(row, number)
        arrivals.append(Arrival(_work(row, name, submitted_s, runs_s), runs_s))
    return arrive_in_order(arrivals)


def read_nodes(file: str, lines: Iterable[str]) -> tuple[Node, ...]:
    nodes: dict[str, Node] = {}
    for row in rows(file, lines, NODES, NODES_MAX):
        name = row.text("sn")
        if name in nodes:
            raise row.wrong("sn", "each name is allowed once")
        kind = row.name("model", "gpu")
        nodes[name] = Node(
            name,
            row.whole("cpu_milli", 1, CPU_MILLI_MAX),
            row.whole("memory_mib", 1, MEMORY_MIB_MAX) * MIB,
            devices=(Device(kind),) * row.whole("gpu", 0, GPUS_MAX),
        )
    return tuple(nodes.values())


def _work(row: Row, name: str, submitted_s: float, runs_s: float) -> Work:
    tier = TIERS[row.one_of("qos", TIERS, "BE")]
    if row.has("tier"):
        tier = Tier(row.one_of("tier", [one.value for one in Tier], tier))
    limit_s = row.number("max_duration", 0, TIME_S_MAX) if row.has("max_duration") else None
    if limit_s is not None and limit_s < runs_s:
        raise row.wrong("max_duration", "at least as many seconds as it runs are allowed")
    return Work(
        name,
        ((name, _shape(row)),),
        project=row.name("project", "default"),
        user=row.text("user", ""),
        tier=tier,
        priority=row.whole("priority", 0, 100, PRIORITY_DEFAULT),
        submitted_s=submitted_s,
        limit_s=limit_s,
    )


def read_shapes(file: str, lines: Iterable[str]) -> list[Shape]:
    """Only what pods ask for, in the order of the file."""
    return [_shape(row) for row in rows(file, lines, PODS, JOBS_MAX)]


def _shape(row: Row) -> Shape:
    count = row.whole("num_gpu", 0, GPUS_MAX)
    milli = row.whole("gpu_milli", 0, GPU_MILLI)
    if count and (milli == 0 or (milli < GPU_MILLI and count > 1)):
        raise row.wrong("gpu_milli", "1 to 1000 of one device, or 1000 of each of several, is allowed")
    kinds = row.text("gpu_spec", "").lower()
    return Shape(
        row.whole("cpu_milli", 0, CPU_MILLI_MAX),
        row.whole("memory_mib", 0, MEMORY_MIB_MAX) * MIB,
        gpu_count=count,
        gpu_milli=milli if count else GPU_MILLI,
        gpu_kinds=frozenset(kind for kind in kinds.split("|") if kind) if count else frozenset(),
    )


def _times(row: Row, number: int) -> tuple[float, float]:
    """(when it arrives, how long it runs). A pod that never started runs as long as it was there."""
    if not row.has("creation_time"):
        return number * INTERVAL_S, math.inf
    created_s = row.number("creation_time", 0, TIME_S_MAX)
    if not row.has("deletion_time"):
        return created_s, math.inf
    started_s = row.number("scheduled_time", 0, TIME_S_MAX, created_s)
    deleted_s = row.number("deletion_time", 0, TIME_S_MAX)
    if started_s < created_s:
        raise row.wrong("scheduled_time", f"nothing before its creation_time ({created_s:g}) is allowed")
    if deleted_s < started_s:
        raise row.wrong("deletion_time", f"nothing before it was scheduled ({started_s:g}) is allowed")
    return created_s, max(1.0, deleted_s - started_s)
