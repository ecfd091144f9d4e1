"""Virtual token counters: equal service for equal weight, nobody starves, nobody saves up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.gateway.routing.fairness import CLIENTS_MAX, FairQueue, Full

COST_MAX = 50


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, COST_MAX), st.integers(0, COST_MAX)), min_size=40, max_size=80),
    st.sampled_from([1.0, 2.0, 5.0]),
)
def test_two_that_always_wait_get_service_by_weight(costs: list[tuple[int, int]], weight: float) -> None:
    queue: FairQueue[tuple[int, int]] = FairQueue(1000)
    for prompt, answer in costs:
        queue.put((prompt, answer), "a", 1.0, cost=prompt)
        queue.put((prompt, answer), "b", weight, cost=prompt)
    service = {"a": 0.0, "b": 0.0}
    left = {"a": len(costs), "b": len(costs)}
    while left["a"] and left["b"]:
        popped = queue.pop()
        assert popped
        (prompt, answer), client = popped
        queue.charge(client, answer)
        left[client] -= 1
        service[client] += (prompt + 2 * answer) / (weight if client == "b" else 1.0)
        assert abs(service["a"] - service["b"]) <= COST_MAX * 3, "one request at most"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 9), st.booleans()), max_size=60))
def test_each_comes_out_once_highest_priority_first_and_in_order(puts: list[tuple[int, int, int, bool]]) -> None:
    queue: FairQueue[int] = FairQueue(1000)
    kept: dict[int, tuple[int, int]] = {}
    for number, (client, priority, cost, goes) in enumerate(puts):
        known = queue.put(number, f"c{client}", priority=priority, cost=cost)
        if goes:
            assert queue.remove(known)
            assert not queue.remove(known)
        else:
            kept[number] = (client, priority)
    popped: list[int] = []
    while found := queue.pop():
        popped.append(found[0])
    assert sorted(popped) == sorted(kept)
    assert len(queue) == 0
    assert [kept[number][1] for number in popped] == sorted((kept[number][1] for number in popped), reverse=True)
    for client in range(5):
        for priority in range(3):
            own = [number for number in popped if kept[number] == (client, priority)]
            assert own == sorted(own)


def test_who_comes_back_is_lifted_and_nobody_starves() -> None:
    queue: FairQueue[str] = FairQueue(1000)
    for number in range(50):
        queue.put(f"busy-{number}", "busy", cost=10)
    for _ in range(20):
        queue.pop()
    for number in range(50):
        queue.put(f"back-{number}", "back", cost=10)
    assert queue.counter("back") == queue.counter("busy") == 200
    nexts = [queue.pop() for _ in range(20)]
    assert sum(found is not None and found[1] == "back" for found in nexts) == 10


def test_a_newcomer_beside_nobody_begins_where_the_last_one_left() -> None:
    queue: FairQueue[str] = FairQueue(10)
    queue.put("x", "old", cost=500)
    queue.pop()
    queue.put("y", "new", cost=1)
    queue.put("z", "old", cost=1)
    assert queue.counter("old") == queue.counter("new") == 500


def test_is_bounded() -> None:
    queue: FairQueue[int] = FairQueue(3)
    for number in range(3):
        queue.put(number, "a")
    with pytest.raises(Full):
        queue.put(3, "b")
    assert queue.pop() == (0, "a")
    queue.put(3, "b")
    many: FairQueue[int] = FairQueue(3)
    for number in range(CLIENTS_MAX + 50):
        many.charge(f"c{number}", 1)
    assert len(many._clients) == CLIENTS_MAX
