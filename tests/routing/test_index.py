"""The index of prefixes and the hashes that go into it: beside a plain model, and never above its limits."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.gateway.routing import blocks, spans
from skerry.gateway.routing.prefix_index import PrefixIndex

step = st.tuples(
    st.sampled_from(["add", "add", "add", "again", "drop", "clear", "forget"]),
    st.integers(0, 3),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
)


def chain(path: list[int]) -> list[int]:
    return [hash(tuple(path[: at + 1])) for at in range(len(path))]


@settings(max_examples=40, deadline=None)
@given(st.lists(step, max_size=40), st.integers(4, 40))
def test_matches_what_each_replica_was_given_and_keeps_its_limit(
    steps: list[tuple[str, int, list[int]]], limit: int
) -> None:
    index = PrefixIndex(limit)
    for verb, number, path in steps:
        replica, found = f"r{number}", chain(path)
        match verb:
            case "add" | "again":
                index.add(replica, found, again=verb == "again")
                assert index.matched(found)[replica] == min(len(found), index.capacity(replica))
            case "drop":
                index.drop(replica, found[-1:])
                assert index.matched(found).get(replica, 0) < len(found)
            case "clear":
                index.clear(replica)
                assert index.kept(replica) == 0
            case _:
                index.forget(replica)
        assert len(index) == sum(index.kept(f"r{at}") for at in range(4)) <= limit
        for other in range(4):
            kept = index._kept.get(f"r{other}", {})
            held = next((at for at, block in enumerate(found) if block not in kept), len(found))
            assert index.matched(found).get(f"r{other}", 0) == held
    for number in range(4):
        index.forget(f"r{number}")
    assert len(index) == 0
    assert not index._holders


def test_forgets_what_was_used_longest_ago_and_the_end_of_a_prompt_first() -> None:
    index = PrefixIndex()
    index.sized("a", 4)
    index.add("a", [1, 2, 3])
    index.add("a", [7, 8])
    assert index.matched([1, 2, 3]) == {"a": 2}
    assert index.matched([7, 8]) == {"a": 2}


def test_long_blocks_count_for_what_they_hold_and_are_found_where_all_are_those_of_an_engine() -> None:
    fine = list(range(2000))
    thin = spans.thinned(fine)
    assert len(thin) == spans.whole(2000) < 350
    assert thin[:64] == fine[:64]
    assert spans.tokens_of(len(thin)) <= 2000 * 16 < spans.tokens_of(len(thin) + 1)
    index = PrefixIndex()
    assert index.add("a", thin, sizes=spans.SIZES) == index.kept("a") == len(index) == spans.ENDS[len(thin) - 1]
    assert index.add("a", thin, sizes=spans.SIZES) == 0
    assert index.uses("a", thin[-1]) == 2
    index.sized("a", 300)
    index.add("a", [-1])
    assert index.matched(thin) == {"a": spans.whole(299)}
    index.add("b", fine)
    assert index.matched(thin)["b"] == len(thin)


def test_what_is_there_again_is_not_one_more_that_uses_it() -> None:
    index = PrefixIndex()
    index.add("a", [1, 2])
    index.drop("a", [2])
    assert index.add("a", [1, 2], again=True) == 1
    assert index.matched([1, 2]) == {"a": 2}
    assert (index.uses("a", 1), index.uses("a", 2)) == (1, 1)


def test_a_growing_conversation_keeps_its_blocks() -> None:
    chance = random.Random(4)
    messages: list[dict[str, object]] = [{"role": "system", "content": "You help. " * 30}]
    before: list[int] = []
    for turn in range(6):
        messages.append({"role": "user", "content": "".join(chance.choices("abc ä", k=100))})
        text = blocks.of_body({"model": "m", "messages": messages})
        found = blocks.of_text(text)
        assert found[: len(before)] == before
        assert len(found) == spans.whole(len(text) // 64) > len(before)
        before = found
        messages.append({"role": "assistant", "content": f"answer {turn}" * 10})


def test_what_differs_has_other_blocks_from_there_on() -> None:
    text = b"x" * 640
    other = text[:200] + b"y" + text[201:]
    left, right = blocks.of_text(text), blocks.of_text(other)
    assert left[:3] == right[:3]
    assert not set(left[3:]) & set(right[3:])
    assert not set(left) & set(blocks.of_text(text, salt="adapter"))
    assert len(blocks.of_text(b"z" * 64 * (spans.ENDS[-1] + 5))) == len(spans.SIZES)


def test_every_form_of_a_prompt_has_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:..."}}
    for body in (
        {"prompt": "hello"},
        {"prompt": ["hello", "there"]},
        {"prompt": [1, 2, 3]},
        {"input": "hello"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}], "instructions": "be brief"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}, image]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "tools": [{"name": "t"}]},
        {"messages": ["odd", 3, None]},
    ):
        assert blocks.of_body(body)
    assert blocks.of_body({}) == b""
    assert blocks.tokens_in(b"x" * 9) == 3
