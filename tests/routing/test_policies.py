"""The promises of every policy in the catalog, and what is special about each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.gateway.routing.catalog import POLICIES, policy
from skerry.gateway.routing.contract import Ask, Candidate
from skerry.gateway.routing.hybrid import Hybrid
from skerry.gateway.routing.prefix import Prefix
from skerry.gateway.routing.session import BOUND, Session
from skerry.model.service import PolicyName
from tests.routing.conformance import asks, candidates, drive, mentioned, shares, without_prompts

every = pytest.mark.parametrize("name", list(POLICIES))


def test_there_is_a_policy_for_every_name() -> None:
    assert set(POLICIES) == set(PolicyName)
    assert all(policy(name).name == name for name in PolicyName)


@every
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**20), st.integers(0, 30), st.integers(0, 4))
def test_picks_what_is_there_the_same_for_the_same_seed_in_any_order(
    name: PolicyName, count: int, seed: int, at_once: int, adapters: int
) -> None:
    work = asks(seed, 60, adapters=adapters)
    picked = drive(policy(name, seed), candidates(count), work, at_once)
    assert picked == drive(policy(name, seed), candidates(count), work, at_once)
    assert picked == drive(policy(name, seed), candidates(count), work, at_once, shuffled=seed)


@every
@pytest.mark.parametrize("at_once", [0, 24])
def test_weights_hold_in_the_long_run(name: PolicyName, at_once: int) -> None:
    weights = [1.0, 2.0, 5.0]
    found = shares(policy_of(name), weights, without_prompts(asks(3, 1500)), at_once)
    assert found == pytest.approx([weight / 8 for weight in weights], abs=0.06)


@every
def test_a_canary_gets_its_part_of_conversations_too(name: PolicyName) -> None:
    found = shares(policy_of(name), [0.9, 0.9, 0.2], asks(5, 1500, conversations=200), 12)
    assert found[2] == pytest.approx(0.1, abs=0.05)


@every
def test_a_lost_replica_leaves_nothing(name: PolicyName) -> None:
    made = policy(name, 7)
    fleet = candidates(3)
    drive(made, fleet, asks(7, 100, adapters=3), 5)
    made.cleared("r1")
    for candidate in fleet:
        made.gone(candidate.id)
    assert mentioned(made, {candidate.id for candidate in fleet}) == []
    assert set(drive(made, candidates(2), asks(8, 30), 4)) <= {"r0", "r1"}


@every
def test_a_new_replica_is_not_given_all_that_others_had_before(name: PolicyName) -> None:
    made = policy(name, 1)
    fleet = candidates(3)
    drive(made, fleet, without_prompts(asks(1, 300)), 6)
    picked = Counter(drive(made, [*fleet, Candidate("new")], without_prompts(asks(2, 120)), 6))
    assert picked["new"] < 60


def policy_of(name: PolicyName):
    return lambda seed: policy(name, seed)


def test_round_robin_is_even_at_every_moment() -> None:
    made, fleet = policy(PolicyName.ROUND_ROBIN), candidates(4, [1, 1, 2, 4])
    picked = [fleet[made.pick(Ask((), 1), fleet, 0).at].id for _ in range(16)]
    assert Counter(picked[:8]) == Counter(picked[8:]) == {"r0": 1, "r1": 1, "r2": 2, "r3": 4}


def test_least_load_sees_what_the_engine_says_of_others_requests() -> None:
    fleet = candidates(2)
    fleet[0].waiting, fleet[1].in_flight = 9, 3
    assert policy(PolicyName.LEAST_LOAD).pick(Ask((), 1), fleet, 0).at == 1


def test_power_of_two_avoids_the_busiest() -> None:
    made, fleet = policy(PolicyName.POWER_OF_TWO), candidates(3)
    fleet[1].in_flight = 5
    assert all(made.pick(Ask((), 1), fleet, 0).at != 1 for _ in range(50))


def test_prefix_goes_to_the_longest_match_until_it_is_busy_out_of_proportion() -> None:
    made, fleet = Prefix(), candidates(3)
    made.routed(Ask((1, 2, 3), 48), "r2", 0)
    made.routed(Ask((1, 2), 32), "r1", 0)
    choice = made.pick(Ask((1, 2, 3, 4), 64), fleet, 0)
    assert (choice.at, choice.matched_blocks) == (2, 3)
    fleet[2].in_flight = 40
    assert made.pick(Ask((1, 2, 3, 4), 64), fleet, 0).at == 1


def test_hybrid_gives_up_prefixes_only_past_its_threshold() -> None:
    fleet = candidates(2)
    for imbalanced, expected in ((float("inf"), 0), (10, 1)):
        made = Hybrid(imbalanced=imbalanced)
        made.routed(Ask((1, 2, 3), 48), "r0", 0)
        fleet[0].in_flight = 50
        assert made.pick(Ask((1, 2, 3), 48), fleet, 0).at == expected


def test_hybrid_takes_the_smallest_tree_where_too_little_matches() -> None:
    made, fleet = Hybrid(), candidates(2)
    made.routed(Ask(tuple(range(1, 40)), 640), "r0", 0)
    assert made.pick(Ask((1, *range(100, 140)), 640), fleet, 0).at == 1


def test_sessions_stay_and_few_move_when_a_replica_goes() -> None:
    made, fleet = Session(), candidates(5)
    before = {name: fleet[made.pick(Ask((), 1, session=name), fleet, 0).at].id for name in map(str, range(300))}
    assert min(Counter(before.values()).values()) > 30
    left = [candidate for candidate in fleet if candidate.id != "r2"]
    for name, was in before.items():
        now = left[made.pick(Ask((), 1, session=name), left, 0).at].id
        assert now == was or was == "r2"


def test_a_session_that_is_everything_does_not_take_a_replica_down() -> None:
    made, fleet = Session(), candidates(4)
    for _ in range(100):
        fleet[made.pick(Ask((), 1, session="hot"), fleet, 0).at].in_flight += 1
    assert max(candidate.in_flight for candidate in fleet) <= BOUND * 101 / 4 + 1


def test_lora_keeps_adapters_apart_until_their_replica_is_busy() -> None:
    made, fleet = policy(PolicyName.LORA), candidates(3)
    fleet[0].adapters = frozenset({"a"})
    assert made.pick(Ask((), 1, adapter="a"), fleet, 0).at == 0
    first = made.pick(Ask((), 1, adapter="b"), fleet, 0).at
    assert first != 0
    made.routed(Ask((), 1, adapter="b"), fleet[first].id, 0)
    assert made.pick(Ask((), 1, adapter="b"), fleet, 0).at == first
    fleet[0].in_flight = 9
    assert made.pick(Ask((), 1, adapter="a"), fleet, 0).at != 0


def test_auto_stays_with_a_conversation_and_spreads_what_many_share() -> None:
    made, fleet = policy(PolicyName.AUTO), candidates(2)
    system = tuple(range(1, 31))
    for number in range(40):
        ask = Ask((*system, 1000 + number), 500)
        made.routed(ask, "r0", 0)
    ask = Ask((*system, *range(2000, 2060)), 1450)
    made.routed(ask, "r0", 0)
    fleet[0].prefill_tokens = 600
    assert made.pick(Ask((*ask.blocks, 2060), 1470), fleet, 0).at == 0, "its own conversation is there"
    assert made.pick(Ask((*system, 3000), 500), fleet, 0).at == 1, "only what all share is there"


@every
def test_what_was_routed_without_being_asked_is_learned_too(name: PolicyName) -> None:
    """As where only one replica has room."""
    made, fleet = policy(name), candidates(2)
    made.pick(Ask(tuple(range(50)), 800), fleet, 0)
    for blocks in ((), (1,), (1, 2)):
        ask = Ask(blocks, 40)
        made.routed(ask, "r1", 1)
        made.began(ask, "r1", 0.1, 1.1)
        made.ended(ask, "r1", False, 0.1, 2)
        made.ended(ask, "r0", False, None, 2)
    assert made.pick(Ask((1, 2), 40), fleet, 3).at in (0, 1)


def test_auto_avoids_a_replica_whose_oldest_prompt_is_overdue() -> None:
    made, fleet = policy(PolicyName.AUTO), candidates(2)
    ask = Ask((1, 2, 3), 50)
    at = made.pick(ask, fleet, 0).at
    made.routed(ask, fleet[at].id, 0)
    assert made.pick(Ask((1, 2, 3, 4), 70), fleet, 0.001).at == at
    assert made.pick(Ask((1, 2, 3, 4), 70), fleet, 60).at != at
    made.began(ask, fleet[at].id, 60, 60)
    assert made.pick(Ask((1, 2, 3, 4), 70), fleet, 60).at == at


def test_auto_learns_which_replica_is_slow() -> None:
    made, fleet = policy(PolicyName.AUTO), candidates(2)
    for number in range(200):
        ask = Ask((), 2000)
        choice = made.pick(ask, fleet, number)
        made.routed(ask, fleet[choice.at].id, number)
        took_s = 0.5 if choice.at == 0 else 0.1
        made.began(ask, fleet[choice.at].id, took_s, number + took_s)
        made.ended(ask, fleet[choice.at].id, True, took_s, number + 1)
    assert made.pick(Ask((), 2000), fleet, 300).at == 1


def test_auto_goes_where_the_adapter_is() -> None:
    made, fleet = policy(PolicyName.AUTO), candidates(3)
    fleet[1].adapters = frozenset({"a"})
    assert all(made.pick(Ask((), 10, adapter="a"), fleet, 0).at == 1 for _ in range(5))


def test_slo_keeps_free_replicas_for_who_needs_them() -> None:
    made, fleet = policy(PolicyName.SLO), candidates(2)
    made.routed(Ask(tuple(range(1, 101)), 1600), "r0", 0)
    fleet[0].prefill_tokens, fleet[0].in_flight = 3000, 9
    long = Ask(tuple(range(1, 102)), 1620, ttft_s=1.0)
    assert made.pick(long, fleet, 0).at == 0, "cached, and soon enough"
    fleet[0].prefill_tokens = 20_000
    assert made.pick(long, fleet, 0).at == 1


def test_disaggregated_sends_long_uncached_prompts_elsewhere_first() -> None:
    made, fleet = policy(PolicyName.DISAGGREGATED), candidates(4, roles=["prefill", "prefill", "decode", "decode"])
    long = Ask(tuple(range(1, 101)), 1600)
    choice = made.pick(long, fleet, 0)
    assert (choice.at in (2, 3), choice.prefill_at in (0, 1)) == (True, True)
    made.routed(long, fleet[choice.at].id, 0)
    again = made.pick(Ask((*long.blocks, 101), 1620), fleet, 0)
    assert (again.at, again.prefill_at, again.matched_blocks) == (choice.at, -1, 100), "its cache is there now"
    assert made.pick(Ask((7,), 20), fleet, 0).prefill_at == -1
    fleet[choice.at].in_flight = 2000
    moved = made.pick(Ask((*long.blocks, 102), 1620), fleet, 0)
    assert (moved.at != choice.at, moved.prefill_at) == (True, choice.prefill_at), "where its prompt is cached"


def test_auto_does_not_push_out_what_is_asked_for_again() -> None:
    made, fleet = policy(PolicyName.AUTO), candidates(2)
    for candidate in fleet:
        candidate.cache_blocks = 400
    history: dict[int, list[int]] = {number: [] for number in range(8)}
    for turn in range(12):
        for number, blocks in history.items():
            blocks.extend(range(1000 * number + 5 * turn, 1000 * number + 5 * turn + 5))
            ask = Ask(tuple(blocks), 16 * len(blocks))
            made.pick(ask, fleet, turn)
            made.routed(ask, "r0", turn)
            made.ended(ask, "r0", True, 0.01, turn)
    stranger = Ask(tuple(range(9000, 9040)), 640)
    assert {made.pick(stranger, fleet, 12).at for _ in range(4)} == {1}, "r0 is full of conversations that go on"
