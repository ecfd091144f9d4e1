"""How fast replicas read prompts is learned from what they do now, not from how long somebody has waited."""

from __future__ import annotations

import pytest

from skerry.gateway.routing.contract import Ask, Candidate
from skerry.gateway.routing.speeds import FIRST_S_PER_TOKEN, TOKENS_LEAST, Speeds

QUICK, SLOW = Candidate("quick"), Candidate("slow")


def test_a_queue_does_not_look_like_a_slow_replica() -> None:
    speeds = Speeds()
    assert speeds.s_per_token(QUICK) == FIRST_S_PER_TOKEN
    asks = [Ask((), 100) for _ in range(5)]
    for each in asks:
        speeds.sent(each, "quick", 100)
    for number, each in enumerate(asks, 1):
        speeds.began(each, "quick", float(number), float(number))
    assert speeds.s_per_token(QUICK) == pytest.approx(0.01)


def test_each_is_known_for_itself_and_idle_time_is_not_its_fault() -> None:
    speeds = Speeds()
    for number in range(200):
        for replica, took_s in (("quick", 1.0), ("slow", 4.0)):
            each = Ask((), 100)
            speeds.sent(each, replica, 100)
            speeds.began(each, replica, took_s, number * 50.0 + took_s)
    assert speeds.s_per_token(QUICK) == pytest.approx(0.01, rel=0.15)
    assert speeds.s_per_token(SLOW) == pytest.approx(0.04, rel=0.15)
    short = Ask((), 3)
    before = speeds.s_per_token(SLOW)
    speeds.sent(short, "slow", TOKENS_LEAST - 1)
    speeds.began(short, "slow", 9.0, 20_000.0)
    assert speeds.s_per_token(SLOW) == before
