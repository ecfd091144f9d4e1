"""Small clouds of every kind, for properties that must hold in all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from skerry.model.queue import Policy, Strategy
from skerry.model.tier import Tier
from skerry.scheduler.shape import Shape, Term
from skerry.scheduler.snapshot import Amounts, Node, Placement, Queue, Quota, Snapshot, Work
from tests.scheduler.plain_cell import PlainCell
from tests.scheduler.world import GIB, node

NOW = 10_000.0
PROJECTS = ("p", "q", "r")
RACKS = ("left", "right")

shapes = st.sampled_from(
    [
        Shape(1000, GIB),
        Shape(1000, GIB),
        Shape(2000, GIB),
        Shape(500, 6 * GIB),
        Shape(4000, 2 * GIB),
        Shape(500, GIB, gpu_count=1, gpu_milli=500),
        Shape(1000, GIB, gpu_count=1),
        Shape(1000, GIB, gpu_count=2),
        Shape(1000, GIB, gpu_count=1, gpu_kinds=frozenset({"a100"})),
        Shape(1000, GIB, terms=(Term("rack", frozenset({"left"})),)),
        Shape(1000, GIB, cpu_overcommit=2.0),
        Shape(9000, GIB),
    ]
)
tiers = st.sampled_from([Tier.FREE, Tier.BEST_EFFORT, Tier.BEST_EFFORT, Tier.MID, Tier.PRODUCTION, Tier.MONITORING])
limits = st.sampled_from([None, 50.0, 100.0, 200.0, 400.0])


@st.composite
def nodes(draw: st.DrawFn, most: int = 4) -> tuple[Node, ...]:
    count = draw(st.integers(1, most))
    return tuple(
        node(
            f"n{number}",
            cpu=draw(st.sampled_from([2, 4, 8])),
            memory=draw(st.sampled_from([4, 8])),
            gpus=draw(st.sampled_from([0, 0, 1, 2])),
            kind=draw(st.sampled_from(["h100", "a100"])),
            labels=(("rack", draw(st.sampled_from(RACKS))),),
            accepts=draw(st.sampled_from([True, True, True, True, False])),
        )
        for number in range(count)
    )


@st.composite
def works(draw: st.DrawFn, most: int = 8, gangs: bool = True) -> tuple[Work, ...]:
    found: list[Work] = []
    for number in range(draw(st.integers(1, most))):
        size = draw(st.sampled_from([1, 1, 1, 2, 3])) if gangs else 1
        asked = draw(shapes)
        found.append(
            Work(
                f"w{number}",
                tuple((f"w{number}-{rank}", asked) for rank in range(size)),
                project=draw(st.sampled_from(PROJECTS)),
                user=draw(st.sampled_from(["", "ann"])),
                tier=draw(tiers),
                priority=draw(st.sampled_from([10, 50, 50, 90])),
                submitted_s=draw(st.sampled_from([0.0, 10.0, 5000.0, 9000.0])),
                minimum=draw(st.integers(1, size)) if size > 1 else None,
                limit_s=draw(limits),
                together=draw(st.sampled_from(["", "", "rack", "node"])) if size > 1 else "",
            )
        )
    return tuple(found)


@st.composite
def placements(draw: st.DrawFn, there: tuple[Node, ...], most: int = 6) -> tuple[Placement, ...]:
    """What fits, by the plain cell."""
    cell = PlainCell(there)
    found: list[Placement] = []
    for number in range(draw(st.integers(0, most))):
        asked = draw(shapes)
        seat = cell.put(asked, strategy=None, id=f"r{number}")
        if seat is not None:
            found.append(
                Placement(
                    seat.id,
                    seat.id,
                    seat.node,
                    asked,
                    seat.devices,
                    project=draw(st.sampled_from(PROJECTS)),
                    tier=draw(tiers),
                    since_s=draw(st.sampled_from([0.0, NOW - 10])),
                    ends_s=draw(st.sampled_from([None, NOW + 50, NOW + 100, NOW + 300])),
                    leaving=draw(st.sampled_from([False, False, False, True])),
                    cost_s=draw(st.sampled_from([0.0, 10.0])),
                )
            )
    return tuple(found)


@st.composite
def queues(draw: st.DrawFn) -> Queue:
    quotas = tuple(
        Quota(
            project,
            guaranteed=draw(st.sampled_from([Amounts(), Amounts(cpu_milli=2000), Amounts(gpu_milli=1000)])),
            limit=draw(st.sampled_from([Amounts(), Amounts(cpu_milli=3000), Amounts(kinds=(("a100", 1000),))])),
            weight=draw(st.sampled_from([1.0, 3.0])),
            running_max=draw(st.sampled_from([None, None, 2])),
        )
        for project in draw(st.sets(st.sampled_from(PROJECTS)))
    )
    return Queue(
        policy=draw(st.sampled_from(list(Policy))),
        strategy=draw(st.sampled_from(list(Strategy))),
        backfill=draw(st.booleans()),
        aging_s=draw(st.sampled_from([None, 3600.0])),
        running_max=draw(st.sampled_from([None, None, 6])),
        quotas=quotas,
        preemption=draw(st.booleans()),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    there = draw(nodes())
    return Snapshot(there, draw(placements(there)), draw(works()), (draw(queues()),), seed=draw(st.integers(0, 3)))
