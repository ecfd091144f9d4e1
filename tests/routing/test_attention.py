"""What pairs of tokens cost is learned from prompts of unlike lengths, and not from what is out of the common."""

from __future__ import annotations

import random

import pytest

from skerry.gateway.routing.attention import Attention, pairs, uncached
from skerry.gateway.routing.contract import Ask, Candidate
from skerry.gateway.routing.slo import Slo

EACH = 4e-5


def taught(lengths: tuple[int, int], *, unusual: float = 0.0) -> Attention:
    draw, attention = random.Random(1), Attention()
    for _ in range(400):
        ask = Ask((), draw.randint(*lengths))
        took = (uncached(ask, 0) + EACH * pairs(ask, 0)) * draw.uniform(0.8, 1.2)
        attention.saw(uncached(ask, 0), pairs(ask, 0), took * (20 if draw.random() < unusual else 1))
    return attention


def test_it_is_learned_from_long_prompts_and_short_ones_change_nothing() -> None:
    assert taught((100, 100_000)).tokens_per_pair == pytest.approx(EACH, rel=0.25)
    assert taught((100, 100_000), unusual=0.05).tokens_per_pair == pytest.approx(EACH, rel=0.25)
    assert taught((100, 2_000)).tokens_per_pair * 1_000 < 0.05, "of a token for each that is read"


def test_a_long_prompt_ahead_is_waited_for_as_long_as_it_takes() -> None:
    policy, replicas = Slo(), [Candidate("a"), Candidate("b")]
    now_s, draw = 0.0, random.Random(1)
    for _ in range(400):
        ask = Ask((), draw.randint(100, 100_000))
        at = policy.pick(ask, replicas, now_s).at
        policy.routed(ask, replicas[at].id, now_s)
        took_s = 1e-4 * (ask.prompt_tokens + EACH * pairs(ask, 0))
        now_s += took_s
        policy.began(ask, replicas[at].id, took_s, now_s)
        policy.ended(ask, replicas[at].id, True, took_s, now_s)
        now_s += 1.0
    long, short = Ask((), 80_000), Ask((), 1_000)
    at = policy.pick(long, replicas, now_s).at
    policy.routed(long, replicas[at].id, now_s)
    replicas[at].prefill_tokens = long.prompt_tokens
    replicas[1 - at].prefill_tokens = 100_000  # more tokens, of prompts that take no longer for them
    seen = policy.outlook(short, replicas, now_s)
    assert seen[at].wait_s == pytest.approx(1e-4 * (80_000 + EACH * pairs(long, 0)), rel=0.25)
    assert seen[1 - at].wait_s < seen[at].wait_s
    policy.ended(long, replicas[at].id, False, None, now_s)
    replicas[at].prefill_tokens = 0
    assert policy.outlook(short, replicas, now_s)[at].wait_s == 0.0
