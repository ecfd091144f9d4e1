"""Who is next, what may pass, what is taken and what is said: each rule of the scheduler in a case that shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.model.queue import Policy
from skerry.model.tier import Tier
from skerry.scheduler.cell import Cell
from skerry.scheduler.decide.refusal import refusal
from skerry.scheduler.place import place
from skerry.scheduler.plan import Because
from skerry.scheduler.shape import Shape, Term
from skerry.scheduler.snapshot import Amounts, Device, Queue, Quota, Snapshot
from tests.scheduler.world import GIB, after, fifo, node, running, shape, started, work

NOW = 1000.0


def test_first_come_first_served() -> None:
    waiting = (work("b", submitted_s=2), work("a", submitted_s=1), work("c", submitted_s=3))
    assert started(place(Snapshot((node("n", cpu=2),), waiting=waiting, queues=(fifo(),)), NOW)) == ["a", "b"]


def test_a_higher_tier_comes_before_any_priority() -> None:
    waiting = (work("a", priority=100), work("b", priority=0, tier=Tier.PRODUCTION))
    queue = Queue(policy=Policy.PRIORITY)
    assert started(place(Snapshot((node("n", cpu=1),), waiting=waiting, queues=(queue,)), NOW)) == ["b"]


def test_waiting_makes_up_for_priority() -> None:
    waiting = (work("old", priority=50, submitted_s=0), work("new", priority=52, submitted_s=7201))
    nodes = (node("n", cpu=1),)
    for aging_s, first in ((3600.0, "old"), (None, "new"), (7200.0, "new")):
        queue = Queue(policy=Policy.PRIORITY, aging_s=aging_s)
        assert started(place(Snapshot(nodes, waiting=waiting, queues=(queue,)), 7300.0)) == [first]


def test_whoever_has_least_is_next() -> None:
    """Dominant shares: one project has cores, the other memory, and each is measured by what it has most of."""
    there = (running("p", "n", cpu=3, project="cores"), running("q", "n", cpu=1, project="less"))
    waiting = tuple(work(f"{name}{i}", project=name, submitted_s=i) for name in ("cores", "less") for i in range(3))
    plan = place(Snapshot((node("n", cpu=7),), there, waiting, (Queue(),)), NOW)
    assert started(plan) == ["less0", "less1", "cores0"]


def test_weights_and_the_past_count() -> None:
    waiting = tuple(work(f"{name}{i}", project=name) for name in "ab" for i in range(4))
    nodes = (node("n", cpu=4, memory=8),)
    heavy = Queue(quotas=(Quota("b", weight=3),))
    assert sorted(started(place(Snapshot(nodes, waiting=waiting, queues=(heavy,)), NOW))) == ["a0", "b0", "b1", "b2"]
    past = {("default", "a", ""): 0.5}
    plan = place(Snapshot(nodes, waiting=waiting, queues=(Queue(),), history=past), NOW)
    assert sorted(started(plan)) == ["a0", "b0", "b1", "b2"]


def test_users_share_what_their_project_has() -> None:
    waiting = [work(f"a{i}", project="p", user="ann", submitted_s=i) for i in range(4)]
    waiting += [work(f"b{i}", project="p", user="bob", submitted_s=9) for i in range(4)]
    plan = place(Snapshot((node("n", cpu=4),), waiting=tuple(waiting)), NOW)
    assert sorted(started(plan)) == ["a0", "a1", "b0", "b1"]


def test_a_limit_is_never_passed_and_holds_nobody_else_up() -> None:
    quota = Quota("a", limit=Amounts(cpu_milli=2000))
    waiting = (*(work(f"a{i}", project="a") for i in range(3)), work("b0", project="b", submitted_s=5))
    plan = place(Snapshot((node("n"),), waiting=waiting, queues=(fifo(quotas=(quota,)),)), NOW)
    assert started(plan) == ["a0", "a1", "b0"]
    assert plan.waiting["a2"].because is Because.QUOTA
    assert "project a would have more cpu than its limit" in plan.waiting["a2"].say


def test_as_many_run_as_may() -> None:
    for queue in (fifo(running_max=2), fifo(quotas=(Quota("default", running_max=2),))):
        there = (running("r", "n"), running("s", "n", work="r"))
        plan = place(Snapshot((node("n", cpu=9),), there, (work("a"), work("b")), (queue,)), NOW)
        assert started(plan) == ["a"]
        assert plan.waiting["b"].because is Because.RUNNING_MAX


def test_a_limit_that_is_passed_already_bars_only_those_who_ask_for_more_of_it() -> None:
    quota = Quota("default", limit=Amounts(gpu_milli=1000))
    there = (running("r0", "n", gpu=2),)
    waiting = (work("cores"), work("device", gpu=1))
    plan = place(Snapshot((node("n", gpus=4),), there, waiting, (fifo(quotas=(quota,)),)), NOW)
    assert started(plan) == ["cores"]
    assert plan.waiting["device"].because is Because.QUOTA


def test_a_limit_of_one_kind_leaves_the_other() -> None:
    quota = Quota("default", limit=Amounts(kinds=(("h100", 1000),)))
    nodes = (node("n", gpus=2), node("m", gpus=2, kind="a100"))
    waiting = tuple(work(f"w{i}", gpu=1, submitted_s=i) for i in range(4))
    plan = place(Snapshot(nodes, waiting=waiting, queues=(fifo(quotas=(quota,)),)), NOW)
    assert sorted(start.node for start in plan.starts) == ["m", "m", "n"]


def test_a_gang_starts_whole_or_not_at_all() -> None:
    nodes = (node("n", cpu=2), node("m", cpu=1))
    plan = place(Snapshot(nodes, waiting=(work("g", members=4),), queues=(fifo(),)), NOW)
    assert plan.starts == ()
    assert plan.waiting["g"].because is Because.NEVER
    there = (running("r", "m"),)
    plan = place(Snapshot(nodes, there, (work("g", members=3),), queues=(fifo(),)), NOW)
    assert plan.starts == ()
    assert plan.waiting["g"].because is Because.GANG
    assert "2 of its 3 members have room now" in plan.waiting["g"].say
    plan = place(Snapshot(nodes, there, (work("g", members=3, minimum=2),), queues=(fifo(),)), NOW)
    assert [start.id for start in plan.starts] == ["g-0", "g-1"]


def test_a_gang_stays_together() -> None:
    racks = [node(f"n{i}", cpu=2, labels=(("rack", "ab"[i % 2]),)) for i in range(4)]
    there = (running("r", "n0"), running("s", "n2"))
    plan = place(Snapshot(tuple(racks), there, (work("g", members=4, together="rack"),), (fifo(),)), NOW)
    assert {start.node for start in plan.starts} == {"n1", "n3"}
    plan = place(Snapshot(tuple(racks), there, (work("g", members=2, together="node"),), (fifo(),)), NOW)
    assert len({start.node for start in plan.starts}) == 1
    never = place(Snapshot(tuple(racks), there, (work("g", members=5, together="rack"),), (fifo(),)), NOW)
    assert never.waiting["g"].because is Because.NEVER


def waits_for_three() -> Snapshot:
    """The head needs three cores; it has them at 1100, on n."""
    there = (running("r", "n", cpu=3, ends_s=1100), running("s", "m", cpu=3, ends_s=1500))
    return Snapshot((node("n"), node("m")), there, (work("head", cpu=3),), (fifo(),))


@pytest.mark.parametrize(
    ("limit_s", "cpu", "where"),
    [
        (100, 1, {"n", "m"}),  # ends in time
        (None, 1, {"n", "m"}),  # beside it there is room for one core on either
        (None, 1.5, set()),
    ],
)
def test_who_may_pass_the_head(limit_s: float | None, cpu: float, where: set[str]) -> None:
    snapshot = waits_for_three()
    late = work("late", cpu=cpu, limit_s=limit_s, submitted_s=9)
    plan = place(replace(snapshot, waiting=(*snapshot.waiting, late)), NOW)
    assert {start.node for start in plan.starts} <= where
    assert bool(plan.starts) == bool(where)
    assert plan.waiting["head"].because is Because.FIT
    assert all(start.backfilled for start in plan.starts)


def test_what_could_delay_the_head_waits_for_it() -> None:
    there = (running("r", "n", cpu=3, ends_s=1100),)
    waiting = (work("head", cpu=4), work("long", limit_s=101, submitted_s=8), work("short", limit_s=99, submitted_s=9))
    snapshot = Snapshot((node("n"),), there, waiting, (fifo(),))
    plan = place(snapshot, NOW)
    assert started(plan) == ["short"]
    assert plan.waiting["long"].because is Because.QUEUE
    assert "head" in plan.waiting["long"].say
    assert plan.waiting["head"].starts_s == 1100
    assert started(place(replace(snapshot, queues=(fifo(backfill=False),)), NOW)) == []


def test_nobody_is_let_onto_the_nodes_of_a_head_whose_time_nobody_knows() -> None:
    there = (running("r", "n", cpu=3), running("s", "m", cpu=2))
    waiting = (work("head", cpu=3), work("a", limit_s=10, submitted_s=8), work("b", submitted_s=9))
    plan = place(Snapshot((node("n"), node("m")), there, waiting, (fifo(),)), NOW)
    assert {(start.id, start.node) for start in plan.starts} == {("a", "n")}
    assert plan.waiting["b"].because is Because.QUEUE


def test_what_asks_for_other_things_than_the_head_is_short_of_passes_it() -> None:
    there = (running("r", "n", cpu=1, gpu=1),)
    waiting = (work("head", cpu=1, gpu=2), work("cores", cpu=1, submitted_s=8), work("share", gpu=0.5, submitted_s=9))
    plan = place(Snapshot((node("n", cpu=4, gpus=2),), there, waiting, (fifo(),)), NOW)
    assert started(plan) == ["cores"]
    assert plan.waiting["share"].because is Because.QUEUE
    many = (*waiting, work("more", cpu=1.5, submitted_s=10))
    plan = place(Snapshot((node("n", cpu=4, gpus=2),), there, many, (fifo(),)), NOW)
    assert started(plan) == ["cores"], "the head's own core is left to it"


def test_what_can_never_start_holds_nobody_up() -> None:
    waiting = (work("never", cpu=99), work("a", submitted_s=9))
    plan = place(Snapshot((node("n"),), waiting=waiting, queues=(fifo(backfill=False),)), NOW)
    assert started(plan) == ["a"]
    assert plan.waiting["never"].because is Because.NEVER
    assert plan.waiting["never"].say == (
        "no machine could ever have it: cpu: 99 is not allowed; the largest machine has 4"
    )


def test_room_is_made_by_the_least_and_fewest() -> None:
    there = (
        running("mid", "n", cpu=4, tier=Tier.MID),
        running("f1", "m", cpu=2, tier=Tier.FREE, cost_s=0),
        running("f2", "m", cpu=2, tier=Tier.FREE, cost_s=50),
        running("b", "o", cpu=4),
    )
    nodes = (node("n"), node("m"), node("o"))
    snapshot = Snapshot(nodes, there, (work("p", cpu=2, tier=Tier.PRODUCTION),), (fifo(),))
    plan = place(snapshot, NOW)
    assert [(each.id, each.for_work, each.reclaim) for each in plan.evictions] == [("f1", "p", False)]
    assert plan.waiting["p"].because is Because.PREEMPTING
    again = place(after(snapshot, plan, NOW), NOW + 1)
    assert again.evictions == ()
    assert again.waiting["p"].because is Because.PREEMPTING


def test_what_began_last_loses_least() -> None:
    began = {"n": -5000.0, "m": -1000.0, "o": -3000.0}
    there = tuple(
        running(f"on-{name}", name, cpu=4, tier=Tier.FREE, since_s=since_s) for name, since_s in began.items()
    )
    nodes = tuple(node(name) for name in began)
    plan = place(Snapshot(nodes, there, (work("p", cpu=2, tier=Tier.PRODUCTION),), (fifo(),)), NOW)
    assert [each.id for each in plan.evictions] == ["on-m"]


def test_the_room_made_is_kept_for_whom_it_was_made() -> None:
    there = (running("v", "n", cpu=4, tier=Tier.FREE, leaving=True), running("w", "m", cpu=3, tier=Tier.PRODUCTION))
    waiting = (work("p", cpu=3, tier=Tier.PRODUCTION), work("late", cpu=1, submitted_s=9), work("more", submitted_s=9))
    snapshot = Snapshot((node("n"), node("m")), there, waiting, (fifo(),))
    plan = place(snapshot, NOW)
    assert [(start.id, start.node) for start in plan.starts] == [("late", "m")]
    gone = replace(snapshot, placements=there[1:])
    assert {start.id: start.node for start in place(gone, NOW).starts}["p"] == "n"


@pytest.mark.parametrize(
    ("victim", "queue"),
    [
        ({"tier": Tier.PRODUCTION}, {}),
        ({"tier": Tier.MONITORING}, {}),
        ({"preemptible": False}, {}),
        ({"since_s": NOW - 59}, {}),
        ({}, {"preemption": False}),
        ({}, {"evictions_left": 0}),
        ({"cpu": 1}, {}),
    ],
)
def test_who_is_left_alone(victim: dict[str, object], queue: dict[str, object]) -> None:
    """Of the same tier, watching, exempt, just begun, no budget left, or without effect."""
    there = (running("v", "n", **{"cpu": 4, **victim}), running("x", "n", cpu=1, tier=Tier.PRODUCTION))  # pyright: ignore
    waiting = (work("p", cpu=4, tier=Tier.PRODUCTION),)
    plan = place(Snapshot((node("n"),), there, waiting, (fifo(**queue),)), NOW)
    assert plan.evictions == ()
    assert plan.starts == ()


def test_of_a_gang_only_those_beyond_its_minimum_go_or_all() -> None:
    there = tuple(running(f"g{i}", f"n{i}", cpu=4, work="g", minimum=2) for i in range(3))
    nodes = tuple(node(f"n{i}") for i in range(3))
    snapshot = Snapshot(nodes, there, (work("p", cpu=2, tier=Tier.PRODUCTION),), (fifo(),))
    assert len(place(snapshot, NOW).evictions) == 1
    whole = replace(snapshot, placements=tuple(replace(each, minimum=3) for each in there))
    assert {each.id for each in place(whole, NOW).evictions} == {"g0", "g1", "g2"}
    held = replace(whole, placements=(*whole.placements[1:], replace(whole.placements[0], preemptible=False)))
    assert place(held, NOW).evictions == ()


def test_what_was_borrowed_is_taken_back() -> None:
    quotas = (Quota("a", guaranteed=Amounts(cpu_milli=2000)), Quota("b", guaranteed=Amounts(cpu_milli=2000)))
    there = tuple(running(f"b{i}", "n", project="b", cost_s=i) for i in range(4))
    waiting = (work("a1", project="a"), work("a2", project="a"), work("a3", project="a"))
    snapshot = Snapshot((node("n"),), there, waiting, (fifo(quotas=quotas),))
    plan = place(snapshot, NOW)
    assert [(each.id, each.for_work, each.reclaim) for each in plan.evictions] == [
        ("b0", "a1", True),
        ("b1", "a2", True),
    ]
    assert plan.waiting["a3"].because is Because.FIT


def test_who_is_within_what_is_guaranteed_comes_first() -> None:
    queue = fifo(quotas=(Quota("a", guaranteed=Amounts(cpu_milli=1000)),))
    waiting = (work("b", project="b"), work("a1", project="a", submitted_s=5), work("a2", project="a", submitted_s=6))
    assert started(place(Snapshot((node("n", cpu=2),), waiting=waiting, queues=(queue,)), NOW)) == ["a1", "b"]


def test_big_work_leaves_a_part_to_small_work() -> None:
    nodes = tuple(node(f"n{i:02}", cpu=10, memory=1000) for i in range(10))
    big = tuple(work(f"big{i:02}", cpu=5, limit_s=1e5) for i in range(30))
    small = work("small", cpu=1, limit_s=60, submitted_s=9)
    snapshot = Snapshot(nodes, waiting=(*big, small), queues=(fifo(),))
    plan = place(snapshot, NOW)
    assert "small" in started(plan)
    assert len(plan.starts) == 19
    assert plan.waiting["big18"].because is Because.RESERVED
    assert len(place(replace(snapshot, queues=(fifo(small_share=0),)), NOW).starts) == 20


def test_queues_have_the_nodes_of_their_labels() -> None:
    from skerry.scheduler.shape import Term

    nodes = (node("n", labels=(("pool", "x"),)), node("m"))
    queues = (fifo(name="x", terms=(Term("pool", frozenset({"x"})),)), fifo(name="none", terms=(Term("no"),)))
    waiting = (*(work(f"w{i}", queue="x") for i in range(5)), work("nowhere", queue="none"))
    plan = place(Snapshot(nodes, waiting=waiting, queues=queues), NOW)
    assert {start.node for start in plan.starts} == {"n"}
    assert len(plan.starts) == 4
    assert plan.waiting["nowhere"].because is Because.NO_NODES
    stray = place(Snapshot(nodes, waiting=(work("w", queue="gone"),), queues=queues), NOW).waiting["w"]
    assert (stray.because, stray.say) == (Because.NO_NODES, "there is no queue gone")


def test_position_and_who_is_ahead() -> None:
    waiting = tuple(work(f"w{i}", cpu=4, submitted_s=i) for i in range(6))
    plan = place(Snapshot((node("n"),), waiting=waiting, queues=(fifo(),)), NOW)
    assert (plan.waiting["w5"].position, plan.waiting["w5"].ahead) == (5, ("w1", "w2", "w3"))
    assert len(plan.waiting) == 5
    assert sum(each.nodes for each in plan.waiting["w5"].fallen) == 1
    assert plan.waiting["w5"].near[0].missing == (("cpu", 4000),)


VISION, MIXED = frozenset({"team=vision"}), (Device("l4", 24 * GIB), Device("h100", 80 * GIB))
NODES = (
    node("small", cpu=2, arch="x86_64", labels=(("zone", "a"),)),
    node("large", cpu=8, gpus=2, arch="x86_64", labels=(("zone", "b"),), extras=(("fpga", 2),)),
    node("arm", cpu=4, memory=16, arch="aarch64", accepts=False, disk_bytes=0),
    node("kept", cpu=64, gpus=8, kind="a100", arch="x86_64", taints=VISION, sandboxes_max=0),
    replace(node("mixed", cpu=16, taints=VISION | {"spot=true"}, arch="x86_64"), devices=MIXED),
)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (shape(cpu=8), None),
        (shape(cpu=4, arch="aarch64"), None),  # it accepts nothing now, which may pass
        (shape(cpu=9), "cpu: 9 is not allowed; the largest machine that it may run on has 8"),
        (shape(arch="aarch64", disk_bytes=1), "disk: no machine that could have the rest has 1B of disk left"),
        (shape(cpu=65, tolerations=frozenset("*")), "cpu: 65 is not allowed; the largest machine has 64"),
        (shape(cpu=9, tolerations=VISION), "sandboxes: every machine that could have the rest is full of"),
        (shape(cpu=9, tolerations=frozenset({"team", "spot"}), gpu=2), None),
        (
            shape(memory=65),
            "memory: 65.0GiB is not allowed; the largest machine that it may run on has 64.0GiB",
        ),
        (
            shape(terms=(Term("zone", frozenset("b"), frozenset("c")),), cpu=8.5),
            "cpu: 8.5 is not allowed; the largest machine that it may run on has 8",
        ),
        (shape(terms=(Term("zone", frozenset("c")),)), "placement.nodes: no machine has labels zone as they"),
        (
            shape(terms=(Term("zone", absent=True),), arch="x86_64"),
            "placement.tolerations: every machine that it may run on has taints that it does not tolerate; add team=",
        ),
        (shape(arch="riscv64"), "placement.arch: riscv64 is not allowed; there are machines of aarch64, x86_64"),
        (
            shape(gpu=3, gpu_kinds=frozenset({"h100"})),
            "gpu: 3 of h100 with what else is asked is not allowed; the largest machine, large, has 2",
        ),
        (shape(gpu=0.5, gpu_kinds=frozenset({"l4", "t4"})), "gpu: 0.5 of l4 or t4 is not allowed; no machine that"),
        (shape(gpu=1, gpu_memory_bytes=90 * GIB), "gpu: 1 with 90.0GiB each is not allowed; no machine that could"),
        (shape(extras=(("fpga", 3),)), "extras: no machine has all of these; the most that one has is 2 fpga"),
        (shape(cpu=8, node="small"), "cpu: 8 is not allowed; the machine where its disk is has 2"),
        (shape(node="gone"), "node: the machine where its disk is has gone"),
    ],
)
def test_what_can_never_fit_is_refused_by_what_there_is_too_little_of(asked: Shape, said: str | None) -> None:
    found = refusal(asked, NODES)
    assert (found is None) if said is None else str(found).startswith(said)
    assert Cell(NODES).could_ever(asked) is (found is None)
    assert refusal(asked, ()) is None


def test_when_those_who_wait_are_expected_to_start() -> None:
    there = (running("r", "n", cpu=4, ends_s=1100),)
    waiting = tuple(work(f"w{i}", cpu=3, limit_s=50 if i < 2 else None, submitted_s=i) for i in range(4))
    plan = place(Snapshot((node("n"),), there, waiting, (fifo(),)), NOW)
    assert [plan.waiting[f"w{i}"].starts_s for i in range(4)] == [1100, 1150, 1200, None]
