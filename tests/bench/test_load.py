"""When requests are sent: by the clock, by users who wait, turn by turn."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.bench.contract import Record, Request
from skerry.bench.data.bodies import Form
from skerry.bench.data.contract import Conversation, Turn
from skerry.bench.data.lengths import lengths
from skerry.bench.load.schedule import Load
from skerry.bench.load.shapes import Shape, Stage, Wave, arrivals
from skerry.errors import Invalid


def talks(turns: int = 1, think_s: float = 0.0) -> Iterator[Conversation]:
    number = 0
    while True:
        yield Conversation([Turn(f"{number}.{at}", 1, 1, think_s) for at in range(turns)])
        number += 1


def play(load: Load, answer_s: float, until_s: float = 1e6) -> list[tuple[float, Request]]:
    """(when sent, what), with answers that all take as long."""
    sent: list[tuple[float, Request]] = []
    flying: list[tuple[float, Request]] = []
    now_s = 0.0
    while now_s <= until_s:
        while (request := load.take(now_s)) is not None:
            sent.append((now_s, request))
            flying.append((now_s + answer_s, request))
        if load.is_over(now_s):
            break
        ends_s = min((at_s for at_s, _ in flying), default=None)
        moments = [at_s for at_s in (load.due_s(), ends_s) if at_s is not None]
        now_s = max(now_s, min(moments))
        for ended in [each for each in flying if each[0] <= now_s]:
            flying.remove(ended)
            load.ended(ended[1], Record(ended[1].number, text="said"), now_s)
    return sent


@given(
    st.lists(st.tuples(st.floats(0.5, 20), st.floats(0.5, 50), st.floats(0.5, 50)), min_size=1, max_size=4),
    st.sampled_from([None, 0.3, 1.0, 4.0]),
)
@settings(max_examples=30, deadline=None)
def test_as_many_come_as_the_rate_says(stages: list[tuple[float, float, float]], burstiness: float | None) -> None:
    shape = Shape([Stage(*stage) for stage in stages])
    found = arrivals(shape, burstiness, np.random.default_rng(7))
    due = sum(seconds * (first + last) / 2 for seconds, first, last in stages)
    assert (np.diff(found) >= 0).all()
    assert not len(found) or (found[0] >= 0 and found[-1] <= shape.seconds)
    spread = 1.5 if burstiness is None else 6 * (due / burstiness) ** 0.5 + 6
    assert abs(len(found) - due) <= spread


def test_gaps_are_as_even_as_asked() -> None:
    chance = np.random.default_rng(1)
    shape = Shape([Stage(200, 50, 50)])
    variation = {
        each: float(np.std(gaps) / np.mean(gaps))
        for each in (None, 0.25, 1.0, 4.0)
        if (gaps := np.diff(arrivals(shape, each, chance))) is not None
    }
    assert variation[None] < 1e-6
    for burstiness in (0.25, 1.0, 4.0):
        assert variation[burstiness] == pytest.approx(burstiness**-0.5, rel=0.08)


def test_a_wave_moves_requests_and_keeps_their_number() -> None:
    plain, wavy = (
        arrivals(Shape([Stage(100, 20, 20)], wave), None, np.random.default_rng(1)) for wave in (None, Wave(50, 0.8))
    )
    assert abs(len(plain) - len(wavy)) <= 2
    assert len(wavy[wavy < 25]) > 1.4 * len(plain[plain < 25])


def test_users_wait_for_their_answers() -> None:
    sent = play(Load(talks(), Form(), users=3, requests_max=10), answer_s=2.0)
    assert [at_s for at_s, _ in sent] == [0, 0, 0, 2, 2, 2, 4, 4, 4, 6]
    assert all(request.at_s is None for _, request in sent)


def test_the_clock_waits_for_nobody() -> None:
    sent = play(Load(talks(), Form(), starts_s=[0.0, 1.0, 1.5]), answer_s=60.0)
    assert [(at_s, request.at_s) for at_s, request in sent] == [(0.0, 0.0), (1.0, 1.0), (1.5, 1.5)]


def test_one_that_may_not_be_sent_yet_is_late_and_says_so() -> None:
    sent = play(Load(talks(), Form(), starts_s=[0.0, 1.0], in_flight_max=1), answer_s=5.0)
    assert [(at_s, request.at_s) for at_s, request in sent] == [(0.0, 0.0), (5.0, 1.0)]


def test_turns_follow_with_the_answers_before_them() -> None:
    sent = play(Load(talks(2, think_s=3.0), Form(), starts_s=[0.0]), answer_s=1.0)
    assert [(at_s, request.turn, request.session) for at_s, request in sent] == [(0.0, 0, 0), (4.0, 1, 0)]
    said = [(each["role"], each["content"]) for each in json.loads(sent[1][1].body)["messages"]]
    assert said == [("user", "0.0"), ("assistant", "said"), ("user", "0.1")]


def test_nothing_begins_after_the_end() -> None:
    sent = play(Load(talks(), Form(), users=1, until_s=5.0), answer_s=2.0)
    assert [at_s for at_s, _ in sent] == [0, 2, 4]


@pytest.mark.parametrize("text", ["64", "D(64)", "U(10,20)", "N(100,5)", "LN(50,0.5)"])
def test_lengths(text: str) -> None:
    draw = lengths(text, "input_tokens")
    found = [draw(np.random.default_rng(3)) for _ in range(3)]
    assert all(each >= 1 for each in found)


@pytest.mark.parametrize("text", ["", "-1", "U(1)", "X(3,4)", "N(a,b)", "U(1,99999999)", "E(/nowhere)"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(Invalid, match=r"^input_tokens: "):
        lengths(text, "input_tokens")
