"""Services by their host names, as plain HTTP."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.gateway.services.journal import Journal
from skerry.model.token import Scope
from skerry.model.traffic import Access
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


async def test_one_that_is_down_is_passed_over(make_world: Any, engines: list[Engine]) -> None:
    engines[0].kill()
    world = await make_world(service(*engines[:2]))
    caller = await client(world)
    for _ in range(4):
        assert (await caller.ask(request(method="GET", path="/", host=HOST)))[0] == 200
