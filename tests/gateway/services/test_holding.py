"""Requests that wait: for room, for a replica, and how much of it whoever asks may have."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from skerry.gateway.services import admission, reporter
from skerry.model.token import Limits, Scope
from skerry.model.traffic import Access, Take, Taken, TrafficReport, UsageReport
from skerry.model.url import RouteNews
from tests.gateway.conftest import KEY, TOKEN, World
from tests.gateway.services.conftest import LAST, Engine, chunk, client, event, request, service, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of itself the gateway reports nothing while a test lasts."""
    monkeypatch.setattr(reporter, "EACH_S", 3600.0)


def holding(**given: Any) -> dict[str, Any]:
    return {"policy": "round-robin", "holding": given}


async def test_a_full_replica_gets_no_more_and_those_who_wait_get_their_turn(
    make_world: Any, engines: list[Engine]
) -> None:
    at_once, most = 0, 0
    all_came = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await all_came.wait()
        await asyncio.sleep(0.01)
        at_once -= 1
        await engines[0].answers(writer)

    engines[0].then = slow
    world = await make_world(service(engines[0], routing=holding(per_replica=2, limit=5)))
    callers = [await client(world) for _ in range(8)]
    asked = [asyncio.ensure_future(each.ask(request())) for each in callers]
    known = world.gateway.registry.all()[0]
    await until(lambda: any(each.done() for each in asked) and known.waiting == 5)
    all_came.set()
    found = await asyncio.gather(*asked)
    assert sorted(status for status, _, _ in found) == [200] * 7 + [429]
    assert most == 2
    [refused] = [(head, json.loads(body)) for status, head, body in found if status == 429]
    assert "\r\nRetry-After: 1\r\n" in refused[0]
    assert refused[1]["error"]["code"] == "rate_limit_exceeded"


async def test_what_an_engine_answers_at_once_and_some_ahead_is_given_and_nobody_is_refused_for_it(
    make_world: Any, engines: list[Engine]
) -> None:
    at_once, most, may_end = 0, 0, asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await may_end.wait()
        at_once -= 1
        await engines[0].answers(writer)

    engines[0].then = slow
    world: World = await make_world(service(engines[0], slots=4, routing=holding(limit=2, wait=1)))
    callers = [await client(world) for _ in range(9)]
    asked = [asyncio.ensure_future(each.ask(request())) for each in callers[:7]]
    [found] = world.gateway.registry.all()
    await until(lambda: (at_once, found.waiting) == (5, 2))
    asked += [asyncio.ensure_future(each.ask(request())) for each in callers[7:]]
    await until(lambda: at_once == 9)  # the queue was full, and then the others had waited for as long as may be
    may_end.set()
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 9


async def test_plain_http_has_no_place_in_the_queue_of_a_model(make_world: Any, engines: list[Engine]) -> None:
    may_end = asyncio.Event()

    async def then(writer: asyncio.StreamWriter) -> None:
        if engines[0].heads[-1].startswith("POST"):
            await may_end.wait()
        await engines[0].answers(writer)

    engines[0].then = then
    world: World = await make_world(service(engines[0], slots=1))
    asked = [asyncio.ensure_future((await client(world)).ask(request())) for _ in range(3)]
    [found] = world.gateway.registry.all()
    await until(lambda: found.waiting == 1)
    caller = await client(world)
    status, _, _ = await caller.ask(request(path="/health", method="GET", host="chat.boxes.test"))
    assert status == 200
    assert found.waiting == 1
    may_end.set()
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3


async def test_whoever_got_least_is_next_and_priority_comes_first(make_world: Any, engines: list[Engine]) -> None:
    order: list[str] = []
    all_wait = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        order.append(json.loads(engines[0].bodies[-1])["user"])
        await all_wait.wait()
        await engines[0].answers(writer)

    engines[0].then = slow
    world: World = await make_world(service(engines[0], routing=holding(per_replica=1)))
    tokens = {name: f"st_{name * 32}" for name in ("aa", "bb", "cc")}
    for name, token in tokens.items():
        world.access[token] = Access(project="default", client=name, id=name, priority=60 if name == "cc" else 50)
    asked: list[Any] = []
    for name in ("aa", "aa", "aa", "aa", "bb", "cc"):
        caller = await client(world)
        asked.append(asyncio.ensure_future(caller.ask(request({"model": "chat", "user": name}, key=tokens[name]))))
        await until(lambda: len(asked) == len(order) + world.gateway.registry.all()[0].waiting)
    all_wait.set()
    await asyncio.gather(*asked)
    assert order[0] == "aa"
    assert order[1:3] == ["cc", "bb"]


async def test_at_zero_requests_are_held_and_control_is_told_at_once(
    make_world: Any, engines: list[Engine], seldom: None
) -> None:
    world: World = await make_world(service(wakes=True))
    callers = [await client(world) for _ in range(3)]
    asked = [asyncio.ensure_future(each.ask(request())) for each in callers]
    await until(lambda: any(isinstance(each, TrafficReport) and each.services[0].wanted for each in world.told))
    world.news.put_nowait(RouteNews(service=service(engines[0], wakes=True)))
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3


async def test_who_waits_too_long_or_for_nothing_is_told(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(wakes=True, routing=holding(wait=0.1)), service(name="none"))
    caller = await client(world)
    for model in ("chat", "none"):
        status, head, body = await caller.ask(request({"model": model}))
        assert status == 503
        assert "\r\nRetry-After: 1\r\n" in head
        assert json.loads(body)["error"]["message"]


async def test_a_token_opens_what_it_is_for_until_it_is_revoked(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]), service(engines[1], name="other"))
    caller = await client(world)
    for opens, model, wanted in (
        (Access(project="default", client="t", id="t"), "chat", 200),
        (Access(project="default", client="t", id="t", services=["chat"]), "other", 403),
        (Access(project="default", client="t", id="t", scopes=[Scope.HTTP]), "chat", 403),
        (Access(project="else", client="t", id="t"), "chat", 404),
        (Access(project="default", client="t", id="t", expires_at_s=1.0), "chat", 401),
    ):
        world.access[TOKEN] = opens
        for entry in world.gateway.services.entrants._known.values():
            entry.told_s = -1e9
        assert (await caller.ask(request({"model": model}, key=TOKEN)))[0] == wanted
    del world.access[TOKEN]
    [entry] = world.gateway.services.entrants._known.values()
    entry.told_s -= 8.0
    assert (await caller.ask(request(key=TOKEN)))[0] == 401


async def test_what_is_known_of_tokens_holds_while_control_is_down(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    caller = await client(world)
    assert (await caller.ask(request()))[0] == 200
    await world.stop_control()
    [entry] = world.gateway.services.entrants._known.values()
    entry.told_s -= 100.0
    assert (await caller.ask(request()))[0] == 200
    assert (await caller.ask(request(key=TOKEN)))[0] == 503
    entry.told_s -= 900.0
    assert (await caller.ask(request()))[0] == 503


async def test_bodies_are_held_only_so_far(
    make_world: Any, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "HELD_BYTES_MAX", 1_000_000)
    world: World = await make_world(service(engines[0]))
    large = request(b'{"model": "chat", "x": "' + b"x" * 900_000 + b'"}')
    caller, other = await client(world), await client(world)
    caller.writer.write(large[:500_000])
    await until(lambda: world.gateway.services.held_bytes > 400_000)
    status, head, _ = await other.ask(large)
    assert status == 503
    assert "\r\nRetry-After: 5\r\n" in head
    assert (await caller.ask(large[500_000:]))[0] == 200
    assert world.gateway.services.held_bytes == 0


async def test_limits_are_spent_in_parts_that_control_gives(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    limits = Limits(requests_per_minute=5, tokens_per_minute=10_000)
    world.access[TOKEN] = Access(project="default", client="t", id="t", limits=limits)
    left = 5

    def taken(take: Any) -> Taken:
        nonlocal left
        given = min(left, take.requests)
        left -= given
        return Taken(requests=given, tokens=take.tokens, concurrency=0, for_s=60, requests_left=left, resets_s=30)

    world.taken = taken
    caller = await client(world)
    found = [await caller.ask(request(key=TOKEN)) for _ in range(7)]
    assert [status for status, _, _ in found] == [200] * 5 + [429] * 2
    assert "\r\nx-ratelimit-limit-requests: 5\r\nx-ratelimit-remaining-requests: 4\r\n" in found[0][1]
    assert "\r\nx-ratelimit-remaining-requests: 0\r\n" in found[5][1]
    assert "\r\nRetry-After: 30\r\n" in found[5][1]
    assert len(engines[0].bodies) == 5


async def test_concurrency_and_budget(make_world: Any, engines: list[Engine]) -> None:
    one_refused = asyncio.Event()

    async def then(writer: asyncio.StreamWriter) -> None:
        await one_refused.wait()
        await engines[0].answers(writer)

    engines[0].then = then
    world: World = await make_world(service(engines[0]))
    world.access[TOKEN] = Access(project="default", client="t", id="t", limits=Limits(concurrency=2))
    world.taken = lambda take: Taken(requests=0, tokens=0, concurrency=min(2, take.concurrency), for_s=60)
    callers = [await client(world) for _ in range(3)]
    asked = [asyncio.ensure_future(each.ask(request(key=TOKEN))) for each in callers]
    await asyncio.wait(asked, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    one_refused.set()
    found = await asyncio.gather(*asked)
    assert sorted(status for status, _, _ in found) == [200, 200, 429]
    assert (await callers[0].ask(request(key=TOKEN)))[0] == 200
    await until(lambda: [each.concurrency for each in world.told if isinstance(each, Take)][-1] == 0)
    other = "st_" + "d" * 64
    world.access[other] = Access(project="default", client="u", id="u", limits=Limits(budget_tokens=10))
    world.taken = lambda take: Taken(requests=0, tokens=0, concurrency=0, for_s=60, spent=True)
    status, _, body = await callers[0].ask(request(key=other))
    assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")


async def test_what_is_used_of_a_budget_is_not_there_again_before_it_is_told(
    make_world: Any, engines: list[Engine], seldom: None
) -> None:
    world: World = await make_world(service(engines[0]))
    world.access[TOKEN] = Access(project="default", client="t", id="t", limits=Limits(budget_tokens=600))
    world.taken = lambda take: Taken(requests=0, tokens=take.tokens, concurrency=0, for_s=60, budget_left=0)
    caller = await client(world)

    def takes() -> list[Take]:
        return [each for each in world.told if isinstance(each, Take)]

    assert (await caller.ask(request(key=TOKEN)))[0] == 200
    assert (await caller.ask(request(key=TOKEN)))[0] == 200
    first, second = [each for each in takes() if each.tokens]
    assert (first.set_aside, second.set_aside) == (0, first.tokens), "of which 10 are used, and not told"
    await world.gateway._reporter.usage()
    [report] = [each for each in world.told if isinstance(each, UsageReport)]
    assert report.spent == {"t": 20}
    # Said without being asked: what was told is not kept any more.
    await until(lambda: takes()[-1].set_aside == first.tokens + second.tokens - 20)
    [(_, allowance)] = world.gateway.services.allowances._by_id.values()
    assert allowance is not None
    allowance._void_s = 0
    world.taken = lambda take: Taken(requests=0, tokens=0, concurrency=0, for_s=0, budget_left=5)
    status, _, body = await caller.ask(request(key=TOKEN))
    assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")
    assert "less is left of this token's budget" in json.loads(body)["error"]["message"]


async def test_a_service_that_is_scaled_to_0_holds_nobody(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    caller = await client(world)
    assert (await caller.ask(request()))[0] == 200
    world.news.put_nowait(RouteNews(service=service(off=True)))
    await until(lambda: world.gateway.registry.all()[0].route.off)
    status, _, body = await caller.ask(request())
    assert (status, json.loads(body)["error"]["code"]) == (503, "unavailable")
    assert "is scaled to 0" in json.loads(body)["error"]["message"]


async def test_while_control_is_down_each_gateway_has_its_share(make_world: Any, engines: list[Engine]) -> None:
    world: World = await make_world(service(engines[0]))
    limits = Limits(requests_per_minute=6)
    world.access[TOKEN] = Access(project="default", client="t", id="t", limits=limits)
    world.taken = lambda take: Taken(requests=1, tokens=0, concurrency=0, for_s=60, gateways=2)
    caller = await client(world)
    assert (await caller.ask(request(key=TOKEN)))[0] == 200
    await world.stop_control()
    assert (await caller.ask(request(key=TOKEN)))[0] == 503, "others may have what is left of this minute"
    [(_, allowance)] = world.gateway.services.allowances._by_id.values()
    assert allowance is not None
    allowance._share_from_s -= 60
    allowance._void_s -= 60
    assert [(await caller.ask(request(key=TOKEN)))[0] for _ in range(4)] == [200, 200, 200, 503]


async def test_what_is_used_is_told_once_for_each_model_and_client(
    make_world: Any, engines: list[Engine], seldom: None
) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}}\n\n'
    world: World = await make_world(service(engines[0], adapters=["tuned"]))
    caller = await client(world)
    assert (await caller.ask(request()))[0] == 200
    assert (await caller.ask(request({"model": "tuned"})))[0] == 200
    engines[0].streams([event(delta="a"), chunk(usage), chunk(b"data: [DONE]\n\n"), LAST])
    assert (await caller.ask(request({"model": "chat", "stream": True})))[0] == 200
    engines[0].streams([event(delta="a"), event(delta="b"), event(delta="c"), LAST])
    assert (await caller.ask(request({"model": "chat", "stream": True})))[0] == 200
    await world.gateway._reporter.usage()
    [report] = [each for each in world.told if isinstance(each, UsageReport)]
    found = {(each.model, each.client): each for each in report.metered}
    chat, tuned = found["chat", "key"], found["tuned", "key"]
    assert (tuned.requests, tuned.prompt_tokens, tuned.completion_tokens) == (1, 7, 3)
    assert (chat.requests, chat.completion_tokens) == (3, 3 + 4 + 2)
    status, _, body = await caller.ask(request(path="/metrics", method="GET", key=KEY))
    assert status == 200
    assert b'skerry_gateway_requests_total{service="chat",project="default",code="200"} 4\n' in body
    assert b'skerry_gateway_time_to_first_token_seconds_count{service="chat",project="default"} 4\n' in body
    assert (await caller.ask(request(path="/metrics", method="GET", key=None)))[0] == 401
