"""Placement: what must hold of every plan for every cloud, and who goes where in the plain cases."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from skerry.scheduler.place import WAIT_S_MAX, Limits, Machine, Snapshot, Want, largest, place

GIB = 1024**3
LIMITS = Limits(cpu_overcommit=4, memory_overcommit=2, sandboxes_max=50, disk_reserve_bytes=GIB)
MACHINE = Machine(id="a", ready=True, cpu=4, memory_bytes=8 * GIB, disk_free_bytes=100 * GIB)
WANT = Want(id="sb-1", cpu=1, memory_bytes=GIB, waited_s=0)

cpus = st.floats(0.05, 64, allow_nan=False)
sizes = st.integers(1, 64 * GIB)
machines = st.lists(
    st.builds(
        Machine,
        id=st.sampled_from("abcde"),
        ready=st.booleans(),
        cpu=cpus,
        memory_bytes=sizes,
        disk_free_bytes=st.integers(0, 10 * GIB),
        cpu_used=st.floats(0, 256, allow_nan=False),
        memory_used_bytes=st.integers(0, 128 * GIB),
        sandboxes=st.integers(0, 60),
    ),
    max_size=5,
    unique_by=lambda machine: machine.id,
)
wants = st.lists(
    st.builds(
        Want,
        id=st.uuids().map(str),
        cpu=cpus,
        memory_bytes=sizes,
        waited_s=st.floats(0, 2 * WAIT_S_MAX),
        machine=st.sampled_from([None, None, "a", "b"]),
    ),
    max_size=40,
    unique_by=lambda want: want.id,
)


@given(machines, wants)
def test_no_plan_breaks_a_promise(machines: list[Machine], wants: list[Want]) -> None:
    plan = place(Snapshot(tuple(machines), tuple(wants), LIMITS))
    by_id = {want.id: want for want in wants}
    assert plan.placed.keys() <= by_id.keys()
    assert not plan.placed.keys() & plan.refused.keys()
    for machine in machines:
        given_to = [by_id[key] for key, chosen in plan.placed.items() if chosen == machine.id]
        if not given_to:
            continue
        assert machine.ready
        assert machine.disk_free_bytes > LIMITS.disk_reserve_bytes
        assert machine.cpu_used + sum(want.cpu for want in given_to) <= machine.cpu * 4 + 1e-6
        assert machine.memory_used_bytes + sum(want.memory_bytes for want in given_to) <= machine.memory_bytes * 2
        assert machine.sandboxes + len(given_to) <= LIMITS.sandboxes_max
        assert all(want.machine in (None, machine.id) for want in given_to)
        assert all(want.cpu <= machine.cpu and want.memory_bytes <= machine.memory_bytes for want in given_to)


@given(machines, wants)
def test_nobody_waits_beside_a_machine_that_would_take_it(machines: list[Machine], wants: list[Want]) -> None:
    """Whoever is not placed would not be placed alone on what is left either."""
    plan = place(Snapshot(tuple(machines), tuple(wants), LIMITS))
    left = []
    for machine in machines:
        given_to = [want for want in wants if plan.placed.get(want.id) == machine.id]
        left.append(
            replace(
                machine,
                cpu_used=machine.cpu_used + sum(want.cpu for want in given_to),
                memory_used_bytes=machine.memory_used_bytes + sum(want.memory_bytes for want in given_to),
                sandboxes=machine.sandboxes + len(given_to),
            )
        )
    for want in wants:
        if want.id not in plan.placed:
            # A hair more than it asks: sums of floats in another order differ in the last digit.
            asked = replace(want, cpu=want.cpu + 1e-6)
            assert not place(Snapshot(tuple(left), (asked,), LIMITS)).placed


@given(machines, wants)
def test_same_snapshot_same_plan(machines: list[Machine], wants: list[Want]) -> None:
    snapshot = Snapshot(tuple(machines), tuple(wants), LIMITS)
    assert place(snapshot) == place(replace(snapshot, machines=tuple(reversed(snapshot.machines))))


@given(machines, wants)
def test_only_patience_and_a_full_disk_are_refused(machines: list[Machine], wants: list[Want]) -> None:
    plan = place(Snapshot(tuple(machines), tuple(wants), LIMITS))
    for want in wants:
        if want.id in plan.refused:
            full = all(m.disk_free_bytes <= LIMITS.disk_reserve_bytes for m in machines if m.ready)
            assert want.waited_s >= WAIT_S_MAX or full
            assert any(machine.ready for machine in machines)
        elif want.id not in plan.placed and any(machine.ready for machine in machines):
            assert want.waited_s < WAIT_S_MAX


def test_emptiest_machine_first() -> None:
    fuller = replace(MACHINE, id="b", memory_used_bytes=GIB)
    plan = place(Snapshot((fuller, MACHINE), (WANT, replace(WANT, id="sb-2"), replace(WANT, id="sb-3")), LIMITS))
    assert plan.placed == {"sb-1": "a", "sb-2": "a", "sb-3": "b"}


def test_big_one_does_not_hold_up_small_ones() -> None:
    full = replace(MACHINE, memory_used_bytes=14 * GIB)
    big, small = replace(WANT, id="big", memory_bytes=4 * GIB), replace(WANT, id="small")
    assert place(Snapshot((full,), (big, small), LIMITS)).placed == {"small": "a"}


def test_unreachable_machine_neither_takes_nor_refuses() -> None:
    away = replace(MACHINE, ready=False)
    waiting = replace(WANT, waited_s=WAIT_S_MAX * 10)
    assert place(Snapshot((away,), (waiting,), LIMITS)) == place(Snapshot((), (), LIMITS))


def test_largest_is_of_one_machine_each() -> None:
    assert largest([]) == (0, 0)
    assert largest([(2, 64), (16, 8)]) == (16, 64)
