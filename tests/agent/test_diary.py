"""When a sandbox may fall asleep: properties of the bookkeeping, whatever happens in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.sleep.diary import Diary, Moment
from skerry.errors import LimitReached, NotFound
from skerry.model.sleep import LEASES_MAX, Lease

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(s: float) -> Moment:
    return Moment(BEGAN + timedelta(seconds=s), s)


def lease(number: int, until_s: float) -> Lease:
    return Lease(id=f"ls-{number:012x}", note=f"number {number}", until=BEGAN + timedelta(seconds=until_s))


steps = st.lists(
    st.tuples(
        st.sampled_from(["touch", "hold", "release", "lease", "end"]),
        st.integers(0, 20),
        st.integers(0, 5),
        st.integers(0, 50),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 30))
def test_it_sleeps_exactly_when_nothing_keeps_it_and_nothing_has_happened_for_so_long(
    moves: list[tuple[str, int, int, int]], idle_s: int
) -> None:
    diary, now_s = Diary(active=at(0)), 0
    holds: dict[int, int] = {}
    leases: dict[int, int] = {}
    active_s = 0
    for move, pause_s, number, for_s in moves:
        now_s += pause_s
        leases = {key: until for key, until in leases.items() if at(until).at > at(now_s).at}
        match move:
            case "touch":
                diary.touch(at(now_s), "exec")
                active_s = now_s
            case "hold" if number not in holds:
                holds[number] = diary.hold(at(now_s), f"exec {number}")
                active_s = now_s
            case "release" if number in holds:
                diary.release(holds.pop(number), at(now_s))
                active_s = now_s
            case "lease" if for_s > 0:
                diary.grant(lease(number, now_s + for_s), at(now_s).at)
                leases[number] = now_s + for_s
            case "end" if number in leases:
                diary.end(lease(number, 0).id)
                del leases[number]
            case _:
                pass
        since_s = diary.idle_since_s(at(now_s))
        assert since_s == (None if holds or leases else active_s)
        assert len(diary.kept_awake_by(at(now_s).at)) == len(holds) + len(leases)
        sleeps_at = diary.sleeps_at(at(now_s), idle_s)
        if holds:
            assert sleeps_at is None
        else:
            assert sleeps_at is not None
            assert sleeps_at >= at(now_s).at
            assert all(sleeps_at >= at(until).at for until in leases.values())


def test_leases_are_bounded_and_run_out() -> None:
    diary = Diary(active=at(0))
    for number in range(LEASES_MAX):
        diary.grant(lease(number, 10), at(0).at)
    with pytest.raises(LimitReached, match=f"already has {LEASES_MAX} leases"):
        diary.grant(lease(99, 10), at(9).at)
    diary.grant(lease(99, 20), at(10).at)
    assert [each.id for each in diary.leases()] == [lease(99, 0).id]
    with pytest.raises(NotFound, match="run out"):
        diary.end(lease(0, 0).id)


def test_never_is_never() -> None:
    assert Diary(active=at(0)).sleeps_at(at(100), None) is None
