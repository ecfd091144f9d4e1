"""Services by their host names, as plain HTTP."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.gateway.services.journal import Journal
from skerry.model.token import Limits, Scope
from skerry.model.traffic import Access, Take, Taken
from tests.gateway.conftest import KEY, TOKEN
from tests.gateway.services.conftest import ANSWER, Engine, client, request, service

pytestmark = pytest.mark.anyio
HOST = "chat.boxes.test"


async def test_any_path_by_its_host_name(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(*engines[:2]))
    caller = await client(world)
    for _ in range(4):
        status, _, body = await caller.ask(request(method="GET", path="/some/page?x=1", host=HOST))
        assert (status, body) == (200, ANSWER)
    assert [len(each.heads) for each in engines[:2]] == [2, 2]
    assert [each.connections for each in engines[:2]] == [1, 1]
    sent = engines[0].heads[0]
    assert sent.startswith("GET /some/page?x=1 HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}\r\n" in sent
    assert KEY not in sent
    assert (await caller.ask(request(b"x" * 300_000, path="/upload", host=HOST)))[0] == 200
    found = world.gateway.registry.all()[0]
    assert found.in_flight == 0
    assert found.counts.by_status == {200: 5}


@pytest.mark.parametrize(
    ("access", "public", "wanted"),
    [
        (None, False, 401),
        (None, True, 200),
        (Access(project="default", client="t", id="t"), False, 200),
        (Access(project="default", client="t", id="t", scopes=[Scope.INFER]), False, 403),
        (Access(project="default", client="t", id="t", services=["other"]), False, 403),
        (Access(project="else", client="t", id="t"), False, 401),
    ],
)
async def test_who_may(
    make_world: Any, engines: list[Engine], access: Access | None, public: bool, wanted: int
) -> None:
    world = await make_world(service(engines[0], public=public))
    if access is not None:
        world.access[TOKEN] = access
    key = None if access is None else TOKEN
    assert (await (await client(world)).ask(request(method="GET", path="/", host=HOST, key=key)))[0] == wanted
    assert len(engines[0].heads) == (wanted == 200)


async def test_what_models_do_is_metered_by_that_name_too(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    status, head, _ = await (await client(world)).ask(request({"model": "whatever"}, host=HOST))
    assert status == 200
    assert "X-Skerry-Replica: sb-one" in head
    assert world.gateway.registry.all()[0].counts.prompt_tokens == 7


async def test_a_model_that_nobody_declared_is_neither_logged_nor_counted(
    make_world: Any, engines: list[Engine]
) -> None:
    world = await make_world(service(engines[0]))
    written = io.StringIO()
    journal = world.gateway.services.journal = Journal(written, on=True)
    caller = await client(world)
    for said in ("a\ninfo gateway forged client=admin", "\0", "x" * 200, "chat"):
        assert (await caller.ask(request({"model": said}, host=HOST)))[0] == 200
    journal.flush()
    lines = written.getvalue().splitlines()
    assert len(lines) == 4
    assert all(" model=chat client=" in line for line in lines)
    metered = world.gateway.services.meter.take(datetime.now(UTC))
    assert [(each.model, each.requests) for each in metered] == [("chat", 4)]


async def test_a_websocket_goes_to_one_replica(make_world: Any, engines: list[Engine]) -> None:
    async def echo(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await asyncio.sleep(5)

    engines[0].then = echo
    world = await make_world(service(engines[0], public=True))
    reader, writer = await world.open()
    writer.write(request(None, "Connection: Upgrade", "Upgrade: websocket", method="GET", path="/ws", host=HOST))
    assert await reader.readuntil(b"hello")
    assert world.gateway.registry.all()[0].in_flight == 1
    writer.close()
    async with asyncio.timeout(30):
        while world.gateway.registry.all()[0].in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_requests_of_a_minute_are_counted_with_those_to_models_and_tokens_are_not(
    make_world: Any, engines: list[Engine]
) -> None:
    world = await make_world(service(engines[0]))
    left = 3

    def take(take: Take) -> Taken:
        nonlocal left
        given = min(take.requests, left)
        left -= given
        return Taken(requests=given, tokens=0, concurrency=0, for_s=60, resets_s=30, spent=True)

    world.taken = take
    limits = Limits(requests_per_minute=3)
    world.access[TOKEN] = Access(project="default", client="ann", id="tk-1", limits=limits)
    caller = await client(world)
    page = request(method="GET", path="/", host=HOST, key=TOKEN)
    found = [await caller.ask(sent) for sent in (page, request(key=TOKEN), page, page)]
    assert [status for status, _, _ in found] == [200, 200, 200, 429]
    assert "\r\nRetry-After: 30\r\n" in found[-1][1]
    budget = Limits(budget_tokens=10)  # spent, which is nothing to a page
    world.access[TOKEN.replace("c", "d")] = Access(project="default", client="bob", id="tk-2", limits=budget)
    assert (await caller.ask(request(method="GET", path="/", host=HOST, key=TOKEN.replace("c", "d"))))[0] == 200


async def test_a_websocket_is_one_of_those_at_once_as_long_as_it_is_open(
    make_world: Any, engines: list[Engine]
) -> None:
    async def then(writer: asyncio.StreamWriter) -> None:
        if "Upgrade: websocket" not in engines[0].heads[-1]:
            await engines[0].answers(writer)
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await asyncio.sleep(60)

    engines[0].then = then
    world = await make_world(service(engines[0]))
    world.taken = lambda take: Taken(requests=0, tokens=0, concurrency=min(take.concurrency, 1), for_s=60)
    limits = Limits(concurrency=1)
    world.access[TOKEN] = Access(project="default", client="ann", id="tk-1", limits=limits)
    page = request(method="GET", path="/", host=HOST, key=TOKEN)
    caller = await client(world)
    assert [(await caller.ask(page))[0] for _ in range(3)] == [200] * 3
    _, writer = opened = await world.open()
    writer.write(
        request(None, "Connection: Upgrade", "Upgrade: websocket", method="GET", path="/ws", host=HOST, key=TOKEN)
    )
    async with asyncio.timeout(30):
        assert await opened[0].readuntil(b"hello")
    assert (await caller.ask(page))[0] == 429
    writer.close()
    async with asyncio.timeout(30):
        while (await caller.ask(page))[0] == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_one_that_is_down_is_passed_over(make_world: Any, engines: list[Engine]) -> None:
    engines[0].kill()
    world = await make_world(service(*engines[:2]))
    caller = await client(world)
    for _ in range(4):
        assert (await caller.ask(request(method="GET", path="/", host=HOST)))[0] == 200
