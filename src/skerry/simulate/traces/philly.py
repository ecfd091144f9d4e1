"""Jobs in the columns of the reduction (Qiao et al., OSDI 2021) of Microsoft's Philly trace (Jeon et al., USENIX ATC
2019): when each was submitted, how long it ran on how many GPUs, and in which virtual cluster."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from skerry.model.tier import Tier
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Work
from skerry.simulate.trace import GIB, JOBS_MAX, Arrival, accelerated, arrive_in_order
from skerry.simulate.traces.columns import Row, rows

COLUMNS = ("timestamp", "duration", "num_gpus", "cluster")
NODE = accelerated("node", cores=64, memory_gib=512, devices=8, kind="gpu")
GPUS_MAX = 4096
DURATION_S_MAX = 1e10
CORES_PER_GPU = 6
GIB_PER_GPU = 48
"""The trace says nothing of cores and memory; these leave GPUs as what runs out."""


def read_jobs(file: str, lines: Iterable[str]) -> tuple[Arrival, ...]:
    arrivals: list[Arrival] = []
    for number, row in enumerate(rows(file, lines, COLUMNS, JOBS_MAX), 1):
        runs_s = row.number("duration", 0, DURATION_S_MAX)
        name = f"job-{number}"
        work = Work(
            name,
            _members(name, row.whole("num_gpus", 0, GPUS_MAX)),
            project=row.name("cluster"),
            tier=Tier.BEST_EFFORT,
            submitted_s=_time_s(row),
        )
        arrivals.append(Arrival(work, max(1.0, runs_s)))
    return arrive_in_order(arrivals)


def _members(name: str, gpus: int) -> tuple[tuple[str, Shape], ...]:
    """More GPUs than a node has are a gang that fills nodes."""
    most = len(NODE.devices)
    parts = [most] * (gpus // most) + ([gpus % most] if gpus % most else [])
    if len(parts) <= 1:
        return ((name, _shape(gpus)),)
    return tuple((f"{name}-{rank}", _shape(part)) for rank, part in enumerate(parts))


def _shape(gpus: int) -> Shape:
    parts = max(1, gpus)
    return Shape(parts * CORES_PER_GPU * 1000, parts * GIB_PER_GPU * GIB, gpu_count=gpus)


def _time_s(row: Row) -> float:
    try:
        moment = datetime.fromisoformat(row.text("timestamp"))
    except ValueError:
        raise row.wrong("timestamp", "a time such as 2017-10-09 07:01:55 is allowed") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
