"""The simulated engine: what it promises for any traffic, and what each of its parts does to time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.engines.simulator.blocks import EventKind
from skerry.engines.simulator.core import NEVER, Engine
from skerry.engines.simulator.profile import BLOCK_TOKENS, Profile
from skerry.engines.simulator.work import Output, Stage, Work
from skerry.errors import Invalid

SMALL = Profile(blocks=24, sequences=4, batch_tokens=32, adapters=2, hold_s=1.0)
LARGE = Profile()


def prefix(*parts: int, blocks: int) -> list[int]:
    """Hashes of so many blocks: those of equal parts begin equally."""
    return [hash((parts, at)) for at in range(blocks)]


def drain(engine: Engine) -> list[Output]:
    out: list[Output] = []
    for _ in range(100_000):
        at_s = engine.next_event()
        if at_s == NEVER:
            return out
        out += engine.advance(at_s)
        conserved(engine)
    raise AssertionError("it never ends")


def conserved(engine: Engine) -> None:
    blocks = engine.blocks
    assert 0 <= blocks.available <= blocks.total
    assert 0 <= blocks.private <= blocks.total
    assert blocks.kept + blocks.private <= blocks.total


def alone(engine: Engine, work: Work, now_s: float = 0.0) -> Work:
    engine.submit(work, now_s)
    drain(engine)
    return work


requests = st.lists(
    st.fixed_dictionaries(
        {
            "after": st.floats(0, 0.3),
            "prompt": st.integers(1, 150),
            "answer": st.integers(0, 120),
            "family": st.integers(0, 2),
            "adapter": st.sampled_from(["", "", "a", "b", "c"]),
            "priority": st.integers(0, 1),
            "fetch": st.booleans(),
            "hold": st.booleans(),
            "abort_after": st.one_of(st.none(), st.none(), st.floats(0, 1)),
        }
    ),
    min_size=1,
    max_size=16,
)


def play(asked: list[dict[str, Any]], *, each_token: bool) -> tuple[Engine, list[Work], list[Output]]:
    engine = Engine(SMALL, each_token=each_token, publish=True)
    comings: list[tuple[float, int, Work, bool]] = []
    now_s = 0.0
    for number, ask in enumerate(asked):
        now_s += ask["after"]
        blocks = prefix(ask["family"], blocks=(ask["prompt"] + ask["answer"]) // BLOCK_TOKENS)
        taken = {key: ask[key] for key in ("prompt", "answer", "adapter", "priority", "fetch", "hold")}
        work = Work(str(number), blocks=blocks, **taken)
        comings.append((now_s, number, work, False))
        if ask["abort_after"] is not None:
            comings.append((now_s + ask["abort_after"], len(asked) + number, work, True))
    out: list[Output] = []
    for at_s, _, work, abort in sorted(comings, key=lambda coming: coming[:2]):
        (engine.abort if abort else engine.submit)(work, at_s)
        out += engine.advance(at_s)
        conserved(engine)
    return engine, [coming[2] for coming in comings if not coming[3]], out + drain(engine)


@settings(max_examples=40, deadline=None)
@given(requests)
def test_whatever_comes_everything_ends_and_every_block_is_free_again(asked: list[dict[str, Any]]) -> None:
    engine, works, out = play(asked, each_token=True)
    assert all(work.stage is Stage.DONE for work in works)
    assert engine.idle
    assert engine.blocks.available == engine.blocks.total
    assert engine.adapters_active == ()
    assert engine.counters.finished + engine.counters.aborted == len(works)
    assert [o.at_s for o in out] == sorted(o.at_s for o in out)
    for work in works:
        told = [o.made for o in out if o.work is work]
        if [o for o in out if o.work is work and o.ended]:
            assert told == list(range(1, work.answer + 1)) or (work.answer == 0 and told == [0])
            assert work.arrived_s <= work.started_s < work.first_s <= work.ended_s
        else:
            assert told == list(range(1, len(told) + 1))
    kept: set[int] = set()
    for event in engine.events():
        if event.kind is EventKind.STORED:
            assert not kept & set(event.blocks)
            assert event.parent is None or event.parent in kept
            kept |= set(event.blocks)
        else:
            assert set(event.blocks) <= kept
            kept -= set(event.blocks)
    assert len(kept) == engine.blocks.kept


@settings(max_examples=40, deadline=None)
@given(requests)
def test_many_steps_at_once_are_the_same_as_one_by_one(asked: list[dict[str, Any]]) -> None:
    """All but for who was preempted by a hair: times differ in their last digits."""
    one, ones, _ = play(asked, each_token=True)
    many, manys, _ = play(asked, each_token=False)
    assert one.counters.steps == many.counters.steps
    assert one.counters.generated_tokens == many.counters.generated_tokens
    assert one.counters.preemptions == many.counters.preemptions
    for a, b in zip(ones, manys, strict=True):
        assert a.first_s == pytest.approx(b.first_s, abs=1e-9)
        assert a.ended_s == pytest.approx(b.ended_s, abs=1e-9)
        assert (a.cached, a.preempted, a.made) == (b.cached, b.preempted, b.made)


def test_time_of_an_answer_is_what_the_profile_says() -> None:
    work = alone(Engine(LARGE), Work("a", prompt=1000, answer=101))
    assert work.ttft_s == pytest.approx(7e-3 + 1000 * (29e-6 + 500 * 1.3e-9))
    assert work.tpot_s == pytest.approx(7e-3 + 29e-6 + 1049.5 * 52e-9)


def test_prompts_share_steps_with_answers_in_chunks() -> None:
    engine = Engine(Profile(batch_tokens=256, sequences=8))
    first = Work("first", prompt=10, answer=500)
    long = Work("long", prompt=2500, answer=1)
    engine.submit(first, 0.0)
    engine.submit(long, 0.1)
    drain(engine)
    assert engine.counters.steps == 500  # 10 of which had a chunk of 255 tokens beside the answer
    assert long.ttft_s > 10 * 7e-3


def test_a_prefix_is_found_again_with_the_answer_that_followed_it() -> None:
    engine = Engine(LARGE)
    turn = alone(engine, Work("1", prompt=160, answer=161, blocks=prefix(1, blocks=20)))
    again = Work("2", prompt=400, answer=1, blocks=prefix(1, blocks=25))
    alone(engine, again, turn.ended_s)
    assert again.cached == 320
    assert engine.counters.hit_tokens == 320
    whole = alone(engine, Work("3", prompt=400, answer=1, blocks=prefix(1, blocks=25)), again.ended_s)
    assert whole.cached == 384  # its last token is computed whatever is kept
    other = alone(engine, Work("4", prompt=400, answer=1, blocks=prefix(2, blocks=25)), whole.ended_s)
    assert other.cached == 0
    engine.clear(other.ended_s)
    assert alone(engine, Work("5", prompt=400, answer=1, blocks=prefix(1, blocks=25)), other.ended_s).cached == 0


def test_what_nobody_used_for_longest_goes_first_and_its_end_before_its_beginning() -> None:
    engine = Engine(Profile(blocks=20), publish=True)
    for number, now_s in ((1, 0.0), (2, 1.0), (1, 2.0)):
        alone(engine, Work(str(now_s), prompt=129, answer=1, blocks=prefix(number, blocks=8)), now_s)
    alone(engine, Work("new", prompt=96, answer=1, blocks=prefix(3, blocks=6)), 3.0)
    gone = [block for event in engine.events() if event.kind is EventKind.REMOVED for block in event.blocks]
    assert gone == prefix(2, blocks=8)[:-3:-1]


def test_without_room_the_newest_starts_over() -> None:
    engine = Engine(Profile(blocks=10, sequences=4, batch_tokens=64))
    old, new = Work("old", prompt=60, answer=60), Work("new", prompt=60, answer=60)
    engine.submit(old, 0.0)
    engine.submit(new, 0.0)
    drain(engine)
    assert (old.preempted, new.preempted) == (0, 1)
    assert old.ended_s < new.ended_s
    assert (old.made, new.made) == (60, 60)


def test_more_adapters_than_fit_wait_for_one_to_be_done_and_loading_takes_time() -> None:
    profile = Profile(adapters=1)
    engine = Engine(profile)
    works = [Work(name, prompt=16, answer=50, adapter=name) for name in ("a", "b")] + [Work("c", prompt=16, answer=2)]
    for work in works:
        engine.submit(work, 0.0)
    drain(engine)
    a, b, c = works
    assert a.ttft_s > profile.adapter_load_s
    assert b.started_s >= a.ended_s > c.ended_s
    assert alone(engine, Work("d", prompt=16, answer=1, adapter="b"), b.ended_s).ttft_s < 0.01
    swapped = alone(engine, Work("e", prompt=16, answer=1, adapter="a"), b.ended_s + 1)
    assert profile.adapter_swap_s < swapped.ttft_s < profile.adapter_load_s


def test_prefill_holds_its_cache_until_decode_has_fetched_it() -> None:
    prefill, decode = Engine(SMALL), Engine(SMALL)
    first = Work("p", prompt=200, answer=1, hold=True)
    prefill.submit(first, 0.0)
    while not (out := prefill.advance(prefill.next_event())):
        pass
    assert out[-1].ended
    assert prefill.blocks.available == SMALL.blocks - 13
    second = Work("d", prompt=200, answer=10, fetch=True)
    decode.submit(second, first.ended_s)
    drain(decode)
    transfer_s = SMALL.transfer_s + 200 * SMALL.transfer_token_s
    assert transfer_s < second.ttft_s < transfer_s + 2 * SMALL.step_s
    assert second.cached == 200
    prefill.release("p", second.first_s)
    assert prefill.blocks.available == SMALL.blocks
    alone(prefill, Work("forgotten", prompt=200, answer=1, hold=True), 5.0)
    assert prefill.blocks.available == SMALL.blocks


def test_who_goes_away_makes_room_at_once() -> None:
    engine = Engine(Profile(sequences=1))
    gone, next_one = Work("gone", prompt=16, answer=1000), Work("next", prompt=16, answer=1)
    engine.submit(gone, 0.0)
    engine.submit(next_one, 0.0)
    engine.abort(gone, 0.5)
    drain(engine)
    assert 0.5 < next_one.first_s < 0.53
    assert gone.stage is Stage.DONE
    assert 40 < gone.made < 80


def test_what_could_never_be_answered_is_refused() -> None:
    engine = Engine(SMALL)
    for prompt, answer in itertools.product((0, 385), (1,)):
        with pytest.raises(Invalid):
            engine.submit(Work("x", prompt=prompt, answer=answer), 0.0)
    engine.advance(1.0)
    with pytest.raises(ValueError, match="time went back"):
        engine.advance(0.5)
    with pytest.raises(ValueError, match="batch_tokens"):
        Profile(batch_tokens=10)
