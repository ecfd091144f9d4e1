"""Working on many objects at once: bounded, resting after failures, and never forgetting who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from skerry.control.reconcile.hands import PAUSE_S_MAX, PAUSE_UNREACHABLE_S_MAX, Hands
from skerry.control.wakeups import Wakeup
from skerry.errors import Failed, SkerryError, Unavailable
from skerry.telemetry import Log
from tests.store.conftest import StillClock

pytestmark = pytest.mark.anyio
Work = Callable[[], Awaitable[None]]


class Bench:
    def __init__(self, group: asyncio.TaskGroup, count: int) -> None:
        self.clock = StillClock()
        self.wakeup = Wakeup()
        self.hands = Hands(count, wakeup=self.wakeup, clock=self.clock, log=Log("test", "error"), group=group)

    def failing(self, error: SkerryError | Exception) -> Work:
        async def work() -> None:
            raise error

        return work

    @property
    def woken(self) -> bool:
        return self.wakeup._event.is_set()


async def test_no_more_than_so_many_and_the_first_free_hand_looks_again() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 2)
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        assert [bench.hands.take(key, wait) for key in "abc"] == [True, True, False]
        assert not bench.hands.take("a", wait)
        assert (bench.hands.window, sorted(bench.hands.busy())) == (0, ["a", "b"])
        assert not bench.woken
        gate.set()
        await bench.hands.settle()
        assert bench.woken
        assert bench.hands.window == 2


async def test_a_hand_that_becomes_free_while_they_are_read_looks_again_at_once() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 2)
        gates = {key: asyncio.Event() for key in "abc"}
        for key in "ab":
            assert bench.hands.take(key, gates[key].wait)  # pyright: ignore[reportArgumentType]
        gates["a"].set()
        await bench.hands.finished("a")
        assert bench.woken
        await bench.wakeup.wait(1)
        assert bench.hands.window == 1, "so many are read, and meanwhile"
        gates["b"].set()
        await bench.hands.finished("b")
        assert not bench.woken
        assert bench.hands.take("c", gates["c"].wait)  # pyright: ignore[reportArgumentType]
        assert bench.woken, "behind c may be more, and a hand is free"
        gates["c"].set()
        await bench.hands.settle()


@pytest.mark.parametrize(
    ("error", "longest_s"), [(Unavailable("away"), PAUSE_UNREACHABLE_S_MAX), (Failed("broke"), PAUSE_S_MAX)]
)
async def test_rests_double_up_to_a_limit(error: SkerryError, longest_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 1)
        rests_s: list[float] = []
        for _ in range(10):
            assert bench.hands.take("a", bench.failing(error))
            await bench.hands.settle()
            rests_s.append(0)
            while not bench.hands.take("a", bench.failing(error)):
                bench.clock.move(0.05)
                rests_s[-1] += 0.05
            await bench.hands.settle()
            bench.clock.move(longest_s)
        assert rests_s[0] < 0.2
        assert rests_s == sorted(rests_s)
        assert longest_s - 0.1 < rests_s[-1] < longest_s + 0.1


async def _nothing() -> None:
    return None


async def test_silence_does_not_count_as_failing() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 1)
        for error, expected_s in ((Unavailable("away"), 0), (Failed("broke"), 0), (Unavailable("away"), 100)):
            assert bench.hands.take("a", bench.failing(error))
            await bench.hands.settle()
            bench.clock.move(100)
            assert bench.hands.answered_for_s("a") in (expected_s, expected_s + 100)
        assert bench.hands.take("a", _nothing)
        await bench.hands.settle()
        assert bench.hands.answered_for_s("a") == 0


async def test_new_wish_is_not_made_to_rest_for_the_old_one() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 1)
        assert bench.hands.take("a", bench.failing(Failed("broke")), 1)
        await bench.hands.settle()
        assert not bench.hands.take("a", _nothing, 1)
        assert bench.hands.take("a", _nothing, 2)


async def test_resting_ones_do_not_hide_those_behind_them() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 2)
        for key in "abcd":
            bench.hands.take(key, bench.failing(Failed("broke")))
            await bench.hands.settle()
        assert bench.hands.window == 6


async def test_defect_in_one_leaves_the_others_alone() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 2)
        done: list[str] = []

        async def work() -> None:
            await asyncio.sleep(0.01)
            done.append("b")

        bench.hands.take("a", bench.failing(ZeroDivisionError("a defect")))
        bench.hands.take("b", work)
        await bench.hands.settle()
        assert done == ["b"]


async def test_drop_cancels_and_waits() -> None:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group, 1)
        ended: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("a")

        bench.hands.take("a", work)
        await asyncio.sleep(0)
        await bench.hands.drop("a")
        assert ended == ["a"]
        await bench.hands.drop("nobody")
        await bench.hands.finished("nobody")
