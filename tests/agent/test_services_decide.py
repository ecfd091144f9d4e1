"""Decisions about services, for any graph of needs: order of start and stop, restarts, back-off, health."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.services import decide
from skerry.agent.services.decide import Standing
from skerry.model.guest_service import RUNS, GuestServiceSpec, GuestServiceState, Health
from skerry.model.restart import BACKOFF_FIRST_S, BACKOFF_S_MAX, STABLE_S, Restart

S = GuestServiceState


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, GuestServiceSpec]:
    """Any without a circle: each needs only earlier ones, and they are declared in any order."""
    count = draw(st.integers(1, 8))
    made: dict[str, GuestServiceSpec] = {}
    for number in range(count):
        needs = draw(st.lists(st.sampled_from(sorted(made)), unique=True, max_size=3)) if made else []
        restart = draw(st.sampled_from(Restart))
        port = draw(st.sampled_from([None, 1000 + number]))
        made[f"s{number}"] = GuestServiceSpec(command=["run"], needs=needs, restart=restart, port=port)
    names = draw(st.permutations(sorted(made)))
    return {name: made[name] for name in names}


@given(graphs())
def test_order(specs: dict[str, GuestServiceSpec]) -> None:
    order = decide.in_order(specs)
    assert sorted(order) == sorted(specs)
    for name in specs:
        assert all(order.index(need) < order.index(name) for need in specs[name].needs)
        chain = decide.with_needs(specs, name)
        assert chain[-1] == name
        assert all(set(specs[each].needs) <= set(chain) for each in chain), "nothing that is needed is left out"


def test_a_graph_with_very_many_ways_through_it_is_no_work() -> None:
    specs = {
        f"s{number}": GuestServiceSpec(command=["run"], needs=[f"s{earlier}" for earlier in range(number)])
        for number in range(32)
    }
    assert decide.in_order(specs) == list(specs)


@given(graphs(), st.randoms(use_true_random=False))
def test_all_come_up_in_order_and_none_twice(specs: dict[str, GuestServiceSpec], chance: random.Random) -> None:
    """Whatever comes up first: nothing starts before what it needs, and in the end nothing is left waiting."""
    states = dict.fromkeys(specs, S.WAITING)
    started: list[str] = []
    for _ in range(3 * len(specs)):
        standings = {name: Standing(state) for name, state in states.items()}
        for name in decide.to_start(specs, standings, 0.0):
            assert name not in started
            assert all(decide.meets(specs[need], states[need]) for need in specs[name].needs)
            assert decide.unmet(specs, standings, name) == []
            started.append(name)
            states[name] = S.STARTING
        coming = [name for name, state in states.items() if state is S.STARTING]
        if coming:
            name = chance.choice(coming)
            states[name] = S.DONE if specs[name].is_task else S.HEALTHY
    assert sorted(started) == sorted(specs)


@given(graphs(), st.data())
def test_none_is_stopped_while_another_needs_it(specs: dict[str, GuestServiceSpec], data: st.DataObject) -> None:
    left = data.draw(st.lists(st.sampled_from(sorted(specs)), unique=True))
    while left:
        wave = decide.to_stop(specs, left)
        assert wave, "there is always one that can go"
        for user in left:
            for need in decide.with_needs(specs, user)[:-1]:
                assert need not in wave, "not even through one that has gone"
        left = [name for name in left if name not in wave]


@given(st.floats(0, 1000), st.sampled_from(list(S)))
def test_one_that_backs_off_waits_for_its_time(now_s: float, other: S) -> None:
    specs = {"a": GuestServiceSpec(command=["run"]), "b": GuestServiceSpec(command=["run"])}
    standings = {"a": Standing(S.BACKING_OFF, 500.0), "b": Standing(other)}
    assert ("a" in decide.to_start(specs, standings, now_s)) == (now_s >= 500.0)
    assert ("b" in decide.to_start(specs, standings, now_s)) == (other in (S.WAITING, S.BACKING_OFF))


codes = st.one_of(st.none(), st.integers(0, 255))


@given(codes, st.sampled_from(Restart), st.floats(0, 1e6), st.integers(0, 1000))
def test_after_its_end(code: int | None, restart: Restart, ran_s: float, failures: int) -> None:
    outcome = decide.after_end(GuestServiceSpec(command=["run"], restart=restart), code, ran_s=ran_s, failures=failures)
    if restart is Restart.ALWAYS or (restart is Restart.ON_FAILURE and code != 0):
        assert outcome.state is S.BACKING_OFF
        assert BACKOFF_FIRST_S <= outcome.wait_s <= BACKOFF_S_MAX
        assert outcome.failures == (1 if ran_s >= STABLE_S else failures + 1)
    else:
        assert outcome.state is (S.DONE if code == 0 else S.FAILED)


def test_waits_grow_to_the_limit_and_begin_anew_after_a_stable_time() -> None:
    spec = GuestServiceSpec(command=["run"])
    waits: list[float] = []
    failures = 0
    for _ in range(10):
        outcome = decide.after_end(spec, 1, ran_s=0.1, failures=failures)
        failures = outcome.failures
        waits.append(outcome.wait_s)
    assert waits == sorted(waits)
    assert waits[0] == BACKOFF_FIRST_S
    assert waits[-1] == BACKOFF_S_MAX
    assert decide.after_end(spec, 1, ran_s=STABLE_S, failures=failures).wait_s == BACKOFF_FIRST_S


@given(st.sampled_from(list(S)), st.booleans(), st.integers(1, 10), st.floats(0, 1000))
def test_after_a_look(state: S, well: bool, missed: int, ran_s: float) -> None:
    spec = GuestServiceSpec(command=["run"], port=80, health=Health(tcp=True, retries=3))
    found = decide.after_look(spec, state, well=well, missed=0 if well else missed, ran_s=ran_s)
    if state not in RUNS:
        assert found is state, "an answer that comes late changes nothing"
    elif well:
        assert found is S.HEALTHY
    elif state is S.STARTING:
        assert found is (S.UNHEALTHY if ran_s >= decide.START_S_MAX else S.STARTING)
    else:
        assert found is (S.UNHEALTHY if missed >= 3 else state)


def test_a_change_of_health_or_policy_does_not_restart() -> None:
    spec = GuestServiceSpec(command=["run"], port=80)
    for change in ({"health": Health(tcp=True)}, {"restart": Restart.NEVER}, {"needs": ["x"]}):
        assert not decide.must_restart(spec, spec.model_copy(update=change))
    for change in ({"command": ["x"]}, {"port": 81}, {"env": {"A": "1"}}, {"user": "x"}, {"workdir": "/x"}):
        assert decide.must_restart(spec, spec.model_copy(update=change))
