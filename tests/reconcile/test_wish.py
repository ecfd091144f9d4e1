"""How many replicas a service should have: within its bounds always, quick up, slow down, and never blind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.control.reconcile.services.asked import Asked, Memory, Moment, Seen
from skerry.control.reconcile.services.wish import Wish, bounds, wish
from skerry.model.scaling import Scaling, Schedule, Signal, Target

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # a Friday
NOW_S = NOW.timestamp()


def ask(scaling: Scaling, loads: list[int], current: int, **more: Any) -> Wish:
    """`loads`: in flight in each of the last seconds, the newest last."""
    history = [
        Moment(at_s=NOW_S - at, seconds=1, in_flight=load, waiting=0, requests=load)
        for at, load in zip(range(len(loads))[::-1], loads, strict=True)
    ]
    asked_s = next((each.at_s for each in reversed(history) if each.in_flight), None)
    given: dict[str, Any] = {"ready": current, "since_s": NOW_S - 10_000, "asked_s": asked_s, "held_s": None}
    return wish(Asked(scaling=scaling, history=history, current=current, now=NOW, **{**given, **more}))


def test_the_mean_of_the_window_over_what_each_should_have() -> None:
    scaling = Scaling(maximum=10, targets=[Target(signal=Signal.IN_FLIGHT, value=8)])
    wished = ask(scaling, [24] * 30, 2)
    assert wished.replicas == 3
    assert wished.say == "in-flight is 24 over 30 s, 8 for each"
    assert ask(scaling, [17] * 30, 2).replicas == 2, "within the tolerance"
    assert ask(scaling, [400] * 30, 2).replicas == 8, "four times as many in one step"
    assert ask(scaling, [400] * 30, 8).replicas == 10, "no more than the most"


def test_a_burst_is_a_panic_and_nothing_goes_in_one() -> None:
    scaling = Scaling(maximum=50, targets=[Target(signal=Signal.IN_FLIGHT, value=1)], up_at_most=1000)
    wished = ask(scaling, [0] * 24 + [20] * 6, 2)
    assert wished.replicas == 20
    assert wished.say.startswith("panic: in-flight is 20 over 6 s")
    after = ask(scaling, [0] * 30, 20, memory=wished.memory)
    assert after.replicas == 20, "there are never fewer in panic"


def test_fewer_only_when_nothing_of_the_time_asked_for_more_and_all_of_it_is_known() -> None:
    scaling = Scaling(maximum=10, down_after=100)
    remembered = Memory(((NOW_S - 50, 6),))
    assert ask(scaling, [8] * 30, 8, memory=remembered).replicas == 6
    assert ask(scaling, [8] * 30, 2).replicas == 1
    wished = ask(scaling, [8] * 30, 8, since_s=NOW_S - 40)
    assert (wished.replicas, "are known" in wished.say) == (8, True)


def test_half_of_them_go_at_once_and_the_rest_is_kept_as_long_again() -> None:
    scaling = Scaling(maximum=10, down_after=100)
    wished = ask(scaling, [8] * 30, 9)
    assert (wished.replicas, wished.say.endswith("at most half of them go at once")) == (5, True)
    assert ask(scaling, [8] * 30, 5, memory=wished.memory).replicas == 5
    aged = Memory(tuple((at_s - 101, count) for at_s, count in wished.memory.wishes))
    assert ask(scaling, [8] * 30, 5, memory=aged).replicas == 3


def test_how_long_they_are_kept_follows_how_long_a_new_one_takes_to_start() -> None:
    wanted_s_ago = {119: Memory(((NOW_S - 119, 4),)), 121: Memory(((NOW_S - 121, 4),))}
    assert ask(Scaling(), [1] * 30, 4, start_s=20.0, memory=wanted_s_ago[119]).replicas == 4
    assert ask(Scaling(), [1] * 30, 4, start_s=20.0, memory=wanted_s_ago[121]).replicas == 2
    assert ask(Scaling(), [1] * 30, 4, start_s=1.0, memory=Memory(((NOW_S - 61, 4),))).replicas == 2
    assert ask(Scaling(), [1] * 30, 4, start_s=500.0, memory=Memory(((NOW_S - 899, 4),))).replicas == 4
    assert ask(Scaling(), [1] * 30, 4, memory=Memory(((NOW_S - 299, 4),))).replicas == 4, "nobody knows"


def arriving(rates: list[int], *, served: int = 1, in_flight: int = 8) -> list[Moment]:
    return [
        Moment(at_s=NOW_S - at, seconds=1, in_flight=in_flight, waiting=0, arrived=rate, requests=served)
        for at, rate in zip(range(len(rates))[::-1], rates, strict=True)
    ]


def test_who_comes_at_once_is_seen_before_so_many_are_in_flight() -> None:
    targets = [Target(signal=Signal.IN_FLIGHT, value=16)]
    given: dict[str, Any] = {"scaling": Scaling(targets=targets), "since_s": 0.0, "current": 1, "ready": 1}
    given |= {"asked_s": NOW_S, "held_s": None, "now": NOW}
    learnt = wish(Asked(history=arriving([1] * 30), **given)).memory
    assert learnt.served_s == 8.0, "8 in flight, and one ends each second"
    wished = wish(Asked(history=arriving([1] * 28 + [9, 12]), memory=learnt, **given))
    assert wished.replicas == 4
    assert wished.say.startswith("panic: at least 8.21 requests come each second and take 8 s: 70.1 will be in flight")
    soon = wish(Asked(history=arriving([1] * 28 + [9, 12]), memory=learnt, start_s=1.0, **given))
    assert "65.7 will be in flight" in soon.say, "of those who come until a new one answers, few wait for it"
    two = {**given, "current": 2, "ready": 2}
    late = wish(Asked(history=arriving([1] * 28 + [9, 12]), memory=learnt, start_s=20.0, **two))
    assert (late.replicas, "92.2 will be in flight" in late.say) == (6, True)
    calm = wish(Asked(history=arriving([1] * 28 + [3, 3]), memory=learnt, **given))
    assert calm.replicas == 1, "chance may have brought them"
    crowded = wish(Asked(history=arriving([9] * 30, in_flight=80), memory=learnt, **given))
    assert crowded.memory.served_s == 8.0, "they wait for each other, which tells nothing of how long one takes"


def test_who_is_served_in_no_time_never_piles_up() -> None:
    targets = [Target(signal=Signal.IN_FLIGHT, value=16)]
    given: dict[str, Any] = {"scaling": Scaling(targets=targets), "since_s": 0.0, "current": 1, "ready": 1}
    given |= {"asked_s": NOW_S, "held_s": None, "now": NOW}
    learnt = wish(Asked(history=arriving([9] * 30, served=9, in_flight=0), **given)).memory
    assert learnt.served_s == 0
    wished = wish(Asked(history=arriving([9] * 28 + [50, 90], in_flight=0), memory=learnt, **given))
    assert wished.replicas == 1


def test_at_zero_until_somebody_is_held_and_back_when_nobody_came() -> None:
    scaling = Scaling(minimum=0, idle=60)
    assert ask(scaling, [], 0).replicas == 0
    assert ask(scaling, [], 0, held_s=NOW_S - 0.1).replicas == 1
    assert ask(scaling, [], 1, asked_s=NOW_S - 59).replicas == 1
    assert ask(scaling, [], 1, asked_s=NOW_S - 61).replicas == 0
    assert ask(scaling, [], 1, since_s=NOW_S - 30).replicas == 1, "control has just started: nobody knows"


def test_times_of_day_and_over_midnight() -> None:
    day = Schedule(since="09:00", until="18:00", days=["fri"], minimum=3)
    night = Schedule(since="22:00", until="06:00", days=["fri"], maximum=1)
    scaling = Scaling(minimum=1, maximum=8, schedules=[day, night])
    assert bounds(scaling, NOW)[:2] == (3, 8)
    assert bounds(scaling, NOW.replace(hour=18))[:2] == (1, 8)
    assert bounds(scaling, NOW.replace(hour=23))[:2] == (1, 1)
    assert bounds(scaling, NOW.replace(hour=5) + timedelta(days=1))[:2] == (1, 1), "it began on Friday"
    assert bounds(scaling, NOW.replace(hour=5))[:2] == (1, 8)
    assert "3 is the least (09:00 to 18:00 UTC)" in ask(scaling, [], 1).say


def test_a_trend_is_followed_before_it_arrives() -> None:
    targets = [Target(signal=Signal.IN_FLIGHT, value=10)]
    rising = list(range(30))
    plain = ask(Scaling(maximum=20, targets=targets), rising, 2).replicas
    ahead = ask(Scaling(maximum=20, targets=targets, predict=True), rising, 2)
    assert (plain, ahead.replicas) == (2, 4)
    assert "in 10 s by its trend" in ahead.say
    slower = ask(Scaling(maximum=20, targets=targets, predict=True), rising, 2, start_s=40.0)
    assert (slower.replicas, "in 40 s by its trend" in slower.say) == (7, True)


def test_an_objective_that_is_missed_wants_more_in_proportion() -> None:
    scaling = Scaling(maximum=20, targets=[Target(signal=Signal.TTFT, value=0.5)])
    history = [Moment(at_s=NOW_S - 1, seconds=1, in_flight=1, waiting=0, ttft_s=(1.0,) * 20)]
    given = {"since_s": 0.0, "ready": 3, "asked_s": NOW_S, "held_s": None, "now": NOW}
    wished = wish(Asked(scaling=scaling, history=history, current=3, **given))  # pyright: ignore[reportArgumentType]
    assert wished.replicas == 6
    given["ready"] = 6
    more = wish(Asked(scaling=scaling, history=history, current=6, memory=wished.memory, **given))  # pyright: ignore[reportArgumentType]
    assert more.replicas == 6, "what was too slow with three says nothing of six"
    assert more.memory.ready_since_s == NOW_S
    slow = [*history, Moment(at_s=NOW_S + 9, seconds=1, in_flight=1, waiting=0, ttft_s=(0.75,) * 20)]
    given["now"] = NOW + timedelta(seconds=10)
    still = wish(Asked(scaling=scaling, history=slow, current=6, memory=more.memory, **given))  # pyright: ignore[reportArgumentType]
    assert still.replicas == 9


def test_what_is_read_of_replicas_asks_for_as_many_as_share_it_well() -> None:
    targets = [Target(signal=Signal.CPU, value=0.5), Target(signal=Signal.CUSTOM, value=4, metric="jobs:open")]
    scaling = Scaling(maximum=20, targets=targets, down_after=0)
    cores = [Seen(NOW_S - at, "cpu", 1.6) for at in range(40)[::-1]]
    jobs = [Seen(NOW_S - at, "custom:jobs:open", 20.0) for at in range(40)[::-1]]
    wished = ask(scaling, [1] * 30, 3, seen=[*cores, *jobs])
    assert (wished.replicas, wished.say) == (5, "custom:jobs:open is 20 over 30 s, 4 for each")
    assert ask(scaling, [1] * 30, 6, seen=[*cores, *jobs]).replicas == 5


def test_what_nobody_tells_never_takes_replicas_away_and_is_said() -> None:
    targets = [Target(signal=Signal.IN_FLIGHT, value=1), Target(signal=Signal.GPU, value=0.5)]
    scaling = Scaling(maximum=20, targets=targets, down_after=0)
    wished = ask(scaling, [1] * 30, 6, unseen={"gpu": "nvidia-smi is not there"})
    assert (wished.replicas, wished.unknown) == (6, "gpu is not known: nvidia-smi is not there")
    assert ask(scaling, [9] * 30, 6).replicas == 9, "what is known may ask for more"
    assert ask(scaling, [1] * 30, 6, since_s=NOW_S - 5).unknown is None, "it has not been asked for long"
    assert ask(scaling, [0] * 30, 6, ready=0).unknown is None, "there is nobody to tell"


def test_an_objective_of_time_asks_for_nothing_where_nobody_asks() -> None:
    scaling = Scaling(maximum=20, targets=[Target(signal=Signal.TTFT, value=0.5)], down_after=0)
    assert ask(scaling, [0] * 30, 2).replicas == 1
    assert ask(scaling, [1] * 30, 6).replicas == 6, "there are requests, and none has begun to be answered"


@settings(max_examples=40, deadline=None)
@given(
    loads=st.lists(st.integers(0, 500), max_size=60),
    current=st.integers(0, 30),
    ready=st.integers(0, 30),
    minimum=st.integers(0, 5),
    more=st.integers(0, 20),
    held=st.booleans(),
)
def test_it_is_always_within_its_bounds_and_says_why(
    loads: list[int], current: int, ready: int, minimum: int, more: int, held: bool
) -> None:
    scaling = Scaling(minimum=minimum, maximum=max(1, minimum + more))
    wished = ask(scaling, loads, current, ready=ready, held_s=NOW_S if held else None)
    assert minimum <= wished.replicas <= scaling.maximum
    assert wished.say
    if wished.replicas > max(current, minimum, 1):
        assert sum(loads[-30:]) > 0, "nobody gets more without having asked"
    if held:
        assert wished.replicas >= 1
    again = ask(scaling, loads, current, ready=ready, held_s=NOW_S if held else None)
    assert again == wished
