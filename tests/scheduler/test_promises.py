"""What holds of every plan for every cloud, however its queues are set."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.model.queue import Strategy
from skerry.model.tier import Tier
from skerry.scheduler.cell import Cell
from skerry.scheduler.ledger import Ledger, check, exceeds
from skerry.scheduler.place import place
from skerry.scheduler.plan import Because, Plan
from skerry.scheduler.snapshot import Amounts, Queue, Quota, Snapshot, Work
from tests.scheduler import world
from tests.scheduler.plain_cell import PlainCell
from tests.scheduler.world import after, fifo, node
from tests.scheduler.worlds import NOW, nodes, placements, snapshots, works

often = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seldom = settings(often, max_examples=25)


def by_id(snapshot: Snapshot) -> dict[str, Work]:
    return {each.id: each for each in snapshot.waiting}


@often
@given(snapshots())
def test_no_promise_is_broken(snapshot: Snapshot) -> None:
    """Room, devices, gangs, limits: nothing is broken afterwards that was not broken before."""
    plan = place(snapshot, NOW)
    assert set(check(after(snapshot, plan, NOW))) <= set(check(snapshot))
    accepting = {node.id for node in snapshot.nodes if node.accepts}
    assert {start.node for start in plan.starts} <= accepting


@often
@given(snapshots())
def test_everything_that_waits_starts_or_is_told_why(snapshot: Snapshot) -> None:
    plan = place(snapshot, NOW)
    begun = {start.work for start in plan.starts}
    assert begun.isdisjoint(plan.waiting)
    assert begun | set(plan.waiting) == set(by_id(snapshot))
    for work in begun:
        members = [start.id for start in plan.starts if start.work == work]
        asked = by_id(snapshot)[work]
        assert len(members) >= (asked.minimum or len(asked.members))
        assert asked.members[0][0] in members
        places = {start.node for start in plan.starts if start.work == work}
        racks = {dict(node.labels)["rack"] for node in snapshot.nodes if node.id in places}
        assert not asked.together or len(places if asked.together == "node" else racks) == 1


@often
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_lists_means_nothing(snapshot: Snapshot, chance: object) -> None:
    def mixed(many: tuple[object, ...]) -> tuple[object, ...]:
        chance.shuffle(items := list(many))  # pyright: ignore
        return tuple(items)

    other = replace(
        snapshot,
        nodes=mixed(snapshot.nodes),
        placements=mixed(snapshot.placements),
        waiting=mixed(snapshot.waiting),
    )  # pyright: ignore
    assert told(place(snapshot, NOW)) == told(place(other, NOW))


def told(plan: Plan) -> object:
    return plan.starts, plan.evictions, dict(sorted(plan.waiting.items()))


@often
@given(snapshots(), st.lists(st.tuples(works(most=4), st.booleans()), max_size=3))
def test_a_kept_cell_decides_as_a_fresh_one(snapshot: Snapshot, later: list[tuple[tuple[Work, ...], bool]]) -> None:
    cell = Cell(snapshot.nodes, snapshot.placements, seed=snapshot.seed)
    ledger = Ledger(snapshot.nodes, snapshot.placements)
    for number, (more, end) in enumerate([((), False), *later]):
        named = tuple(
            replace(each, id=f"{number}{each.id}", members=tuple((f"{number}{name}", s) for name, s in each.members))
            for each in more
        )
        snapshot = replace(snapshot, waiting=(*snapshot.waiting, *named))
        plan = place(snapshot, NOW, cell, ledger)
        assert told(plan) == told(place(snapshot, NOW))
        snapshot = after(snapshot, plan, NOW)
        if end and snapshot.placements:
            gone = min(snapshot.placements, key=lambda each: each.id)
            members = [each for each in snapshot.placements if each.work == gone.work]
            snapshot = replace(snapshot, placements=tuple(each for each in snapshot.placements if each not in members))
            for each in members:
                cell.free(each.id)
                ledger.remove(each.id)


def test_what_a_quota_narrowed_is_remembered_as_it_was_wished() -> None:
    quota = Quota("p", limit=Amounts(kinds=(("a100", 0),)))
    there = (node("n0", gpus=1), node("n1", gpus=1, kind="a100"))
    queue = fifo(quotas=(quota,), strategy=Strategy.FRAGMENTATION)
    first = Snapshot(there, waiting=(world.work("w0", gpu=0.5, project="p"),), queues=(queue,))
    cell, ledger = Cell(there), Ledger(there, ())
    plan = place(first, NOW, cell, ledger)
    assert [start.node for start in plan.starts] == ["n0"]
    second = replace(after(first, plan, NOW), waiting=(world.work("w1", cpu=4),))
    assert told(place(second, NOW, cell, ledger)) == told(place(second, NOW))


@often
@given(snapshots())
def test_reasons_agree_with_what_is_there(snapshot: Snapshot) -> None:
    plan = place(snapshot, NOW)
    later = after(snapshot, plan, NOW)
    before, cell = PlainCell(snapshot.nodes, snapshot.placements), PlainCell(later.nodes, later.placements)
    ledger = Ledger(later.nodes, later.placements)
    queue = snapshot.queues[0]
    for id, waiting in plan.waiting.items():
        work = by_id(snapshot)[id]
        shapes = [shape for _, shape in work.members]
        alone = len(shapes) == 1
        ever = cell.could_ever(shapes[0])
        assert ever or waiting.because in (Because.NEVER, Because.QUOTA, Because.RUNNING_MAX, Because.NO_NODES)
        if waiting.because in (Because.FIT, Because.NEVER):
            assert sum(each.nodes for each in waiting.fallen) == len(snapshot.nodes) - cell.fits(shapes[0])
            assert not alone or not cell.fits(shapes[0])
            assert not alone or ever == (waiting.because is Because.FIT)
        elif waiting.because in (Because.QUEUE, Because.RESERVED) and alone:
            assert before.fits(shapes[0])  # others may have started there since
        elif waiting.because is Because.QUOTA and alone:
            assert over(queue, ledger, work)
        elif waiting.because is Because.RUNNING_MAX:
            assert full(queue, ledger, work)
        assert waiting.say
        assert waiting.position >= 1


def over(queue: Queue, ledger: Ledger, work: Work) -> bool:
    quota = next(each for each in queue.quotas if each.project == work.project)
    usage = ledger.of(queue.name, work.project)
    shape = work.members[0][1]
    if any(usage.kinds.get(kind, 0) + shape.gpu_count * shape.gpu_milli > most for kind, most in quota.limit.kinds):
        return bool(shape.gpu_count)
    return exceeds(usage, quota.limit, {shape: 1}) is not None


def full(queue: Queue, ledger: Ledger, work: Work) -> bool:
    maxima = [(ledger.of(queue.name), queue.running_max)]
    maxima += [
        (ledger.of(queue.name, work.project), each.running_max) for each in queue.quotas if each.project == work.project
    ]
    return any(most is not None and usage.running >= most for usage, most in maxima)


@often
@given(snapshots())
def test_no_priority_inversion(snapshot: Snapshot) -> None:
    """Of those who ask the same, for the same people and time, nobody starts before one that is before it."""
    plan = place(snapshot, NOW)
    begun = {start.work for start in plan.starts}
    alike = [
        [
            each
            for each in snapshot.waiting
            if (*each.members[0][1:], *_rest(each)) == (*one.members[0][1:], *_rest(one))
        ]
        for one in snapshot.waiting
    ]
    for same in alike:
        for one in same:
            for other in same:
                if one.id in begun and other.id not in begun:
                    assert one.tier.rank >= other.tier.rank
                    if one.tier is other.tier and one.priority == other.priority:
                        assert (one.submitted_s, one.id) < (other.submitted_s, other.id)
                    if one.tier is other.tier and one.submitted_s == other.submitted_s:
                        assert one.priority >= other.priority or snapshot.queues[0].policy == "fifo"


def _rest(work: Work) -> tuple[object, ...]:
    return len(work.members), work.minimum, work.together, work.limit_s, work.project, work.user


@often
@given(snapshots())
def test_places_are_taken_of_lower_tiers_and_never_in_vain(snapshot: Snapshot) -> None:
    plan = place(snapshot, NOW)
    there = {each.id: each for each in snapshot.placements}
    fresh = replace(snapshot, placements=tuple(each for each in snapshot.placements if not each.leaving))
    taken = {each.id for each in plan.evictions}
    for eviction in plan.evictions:
        victim, work = there[eviction.id], by_id(snapshot)[eviction.for_work]
        assert victim.tier is not Tier.MONITORING
        assert victim.tier.rank < work.tier.rank or (eviction.reclaim and victim.tier.rank == work.tier.rank)
        assert not victim.leaving
        assert victim.since_s < NOW - 60
        assert plan.waiting[eviction.for_work].because is Because.PREEMPTING
    if not taken:
        return
    # Once they are gone, those for whom they went start, with what started meanwhile still there.
    left = tuple(each for each in fresh.placements if each.id not in taken)
    ahead = after(replace(fresh, placements=left), replace(plan, evictions=()), NOW)
    begun = {start.work for start in place(ahead, NOW).starts}
    assert {each.for_work for each in plan.evictions} <= begun
    # And with any one of them still there, one of those would not.
    assert len(taken) == len(plan.evictions)


@st.composite
def heads(draw: st.DrawFn) -> Snapshot:
    """Everything says when it ends, and does end then."""
    there = draw(nodes())
    runs = tuple(
        replace(each, ends_s=each.ends_s or NOW + 400, leaving=False, tier=Tier.MID) for each in draw(placements(there))
    )
    waiting = tuple(
        replace(each, tier=Tier.MID, limit_s=each.limit_s or 10_000.0)
        for each in draw(works(gangs=draw(st.booleans())))
    )
    return Snapshot(there, runs, waiting, (fifo(),))


@seldom
@given(heads())
def test_backfill_never_delays_the_head(snapshot: Snapshot) -> None:
    first = place(snapshot, NOW)
    head = next(
        (
            work
            for work in sorted(snapshot.waiting, key=lambda each: (each.submitted_s, each.id))
            if _blocked(first, work)
        ),
        None,
    )
    if head is None:
        return
    strict = replace(snapshot, queues=(fifo(backfill=False),))
    assert begins(snapshot, head.id) <= begins(strict, head.id)


def _blocked(plan: Plan, work: Work) -> bool:
    return work.id in plan.waiting and plan.waiting[work.id].because in (Because.FIT, Because.GANG)


def begins(snapshot: Snapshot, head: str) -> float:
    """When the head starts, with time going from end to end."""
    now = NOW
    while True:
        plan = place(snapshot, now)
        if any(start.work == head for start in plan.starts):
            return now
        snapshot = after(snapshot, plan, now)
        ends = [each.ends_s for each in snapshot.placements if each.ends_s is not None]
        if not ends:
            return float("inf")
        now = min(ends)
        snapshot = replace(snapshot, placements=tuple(each for each in snapshot.placements if each.ends_s != now))


@seldom
@given(snapshots())
def test_the_rules_do_not_depend_on_which_node_is_chosen(snapshot: Snapshot) -> None:
    """With the plain cell, which takes the first node, all promises hold as well."""
    cell = PlainCell(snapshot.nodes, snapshot.placements)
    plan = place(snapshot, NOW, cell)  # pyright: ignore
    assert set(check(after(snapshot, plan, NOW))) <= set(check(snapshot))
    # Afterwards the cell has what was there and what has started: nothing that was tried is left in it.
    starts = {start.id: start.node for start in plan.starts}
    assert {id: each.node for id, each in cell.held.items()} == {
        each.id: each.node for each in snapshot.placements
    } | starts
