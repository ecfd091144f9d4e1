"""What goes wrong behind the gateway: retried before the first byte, never after it, and left out where it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from skerry.gateway.routing.contract import Choice
from skerry.model.service import Role
from skerry.model.url import RouteNews
from tests.gateway.services.conftest import ANSWER, LAST, Engine, client, event, request, service, until

pytestmark = pytest.mark.anyio
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize(
    "fault", ["refused", "closed", "half a head", "503", "no http", "two lengths", "length beside chunks", "upgrade"]
)
async def test_another_replica_is_asked_before_the_first_byte(
    make_world: Any, engines: list[Engine], fault: str
) -> None:
    bad, good = engines[:2]
    answers = {
        "closed": b"",
        "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
        "503": BROKEN,
        "no http": b"220 mail.test ESMTP\r\n\r\n",
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "length beside chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    }
    if fault == "refused":
        bad.kill()
    else:
        bad.says(answers[fault], hangs_up=fault != "503")
    world = await make_world(service(bad, good))
    caller = await client(world)
    for _ in range(4):
        status, head, body = await caller.ask(request())
        assert (status, body) == (200, ANSWER)
        assert "X-Skerry-Replica: sb-two" in head
    assert len(good.bodies) == 4
    assert world.gateway.registry.all()[0].in_flight == 0


async def test_what_all_of_them_answer_is_passed_on(make_world: Any, engines: list[Engine]) -> None:
    for each in engines:
        each.says(BROKEN)
    world = await make_world(service(*engines, routing={"policy": "round-robin", "retries": 1}))
    status, _, body = await (await client(world)).ask(request())
    assert (status, body) == (503, b"no")
    assert sum(len(each.bodies) for each in engines) == 2


async def test_nothing_is_asked_again_after_the_first_byte(make_world: Any, engines: list[Engine]) -> None:
    async def breaks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + event(delta="a"))
        await writer.drain()
        writer.transport.abort()

    engines[0].then = breaks
    world = await make_world(service(*engines[:2]))
    reader, writer = await world.open()
    writer.write(request())
    came = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(30):
            while part := await reader.read(65536):
                came += part
    assert event(delta="a") in came
    assert LAST not in came
    assert engines[1].bodies == []


async def test_a_kept_connection_that_was_closed_costs_no_try(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0], routing={"retries": 0}))
    caller = await client(world)
    for _ in range(3):
        assert (await caller.ask(request()))[0] == 200
        for writer in list(engines[0]._open):
            writer.transport.abort()
    assert len(engines[0].bodies) == 3


async def test_who_leaves_is_not_worked_for(make_world: Any, engines: list[Engine]) -> None:
    engines[0].streams([event(delta="a")] * 1000, pause_s=0.01)
    world = await make_world(service(engines[0]))
    reader, writer = await world.open()
    writer.write(request())
    await reader.readuntil(b"data:")
    writer.transport.abort()
    await until(lambda: engines[0].left)
    assert world.gateway.registry.all()[0].in_flight == 0
    assert world.gateway.services.calls == set()


@pytest.mark.parametrize(("given", "written"), [("first", False), ("between", True)])
async def test_who_is_silent_too_long(make_world: Any, engines: list[Engine], given: str, written: bool) -> None:
    async def stalls(writer: asyncio.StreamWriter) -> None:
        if written:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + event(delta="a"))
        await asyncio.sleep(30)

    engines[0].then = stalls
    world = await make_world(service(engines[0], routing={"timeouts": {given: 0.3}}))
    reader, writer = await world.open()
    writer.write(request())
    head = await reader.readuntil(b"\r\n\r\n")
    if written:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readuntil(LAST)
    else:
        assert b" 504 " in head
        assert b'"code": "timeout"' in await reader.readuntil(b"}}")


async def test_one_that_fails_is_left_out_and_comes_back(make_world: Any, engines: list[Engine]) -> None:
    bad = engines[0]
    bad.says(BROKEN)
    ejection = {"failures": 2, "seconds": 60}
    world = await make_world(service(*engines[:2], routing={"policy": "round-robin", "ejection": ejection}))
    caller = await client(world)
    assert [(await caller.ask(request()))[0] for _ in range(8)] == [200] * 8
    assert len(bad.bodies) == 2
    bad.then = bad.answers
    found = world.gateway.registry.all()[0]
    found.replicas["sb-one"].ejected_until_s -= 60
    async with asyncio.timeout(30):
        while len(bad.bodies) < 4:
            assert (await caller.ask(request()))[0] == 200
            await asyncio.sleep(0.02)
    assert found.ejections == 1
    assert not found.replicas["sb-one"].half_open


async def test_the_last_one_is_never_left_out(make_world: Any, engines: list[Engine]) -> None:
    engines[0].says(BROKEN)
    world = await make_world(service(engines[0], routing={"ejection": {"failures": 1}}))
    caller = await client(world)
    assert [(await caller.ask(request()))[0] for _ in range(4)] == [503] * 4
    engines[0].then = engines[0].answers
    assert (await caller.ask(request()))[0] == 200


async def test_one_that_leaves_the_routes_ends_what_it_does(make_world: Any, engines: list[Engine]) -> None:
    other_asked = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(event(n=0))
        await other_asked.wait()
        for n in range(1, 20):
            writer.write(event(n=n))
            await asyncio.sleep(0.001)
        writer.write(LAST)

    engines[0].then = slowly
    world = await make_world(service(engines[0]))
    caller = await client(world)
    caller.writer.write(request())
    await caller.reader.readuntil(b"data:")
    found = world.gateway.registry.all()[0]
    world.news.put_nowait(RouteNews(service=service(engines[1])))
    await until(lambda: "sb-two" in found.at_replicas())
    other = await client(world)
    assert "sb-two" in (await other.ask(request()))[1]
    assert found.at_replicas() == {"sb-one": 1, "sb-two": 0}, "control waits for it"
    other_asked.set()
    rest = await caller.reader.readuntil(b"\r\n0\r\n\r\n")
    assert rest.count(b"data:") == 19
    assert found.at_replicas() == {"sb-two": 0}
    assert (await caller.ask(request()))[0] == 200
    assert len(engines[0].bodies) == 1


async def test_a_gateway_that_starts_while_control_is_down_serves(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0], public=True))
    kept = world.settings.run_path / "services.json"
    await until(kept.exists)
    again = type(world.gateway)(world.settings, world.gateway._log)
    again.registry.load()
    assert [each.route for each in again.registry.all()] == [service(engines[0], public=True)]
    assert json.loads(kept.read_text())


async def test_the_only_one_is_waited_for_while_it_starts_again(make_world: Any, engines: list[Engine]) -> None:
    engines[0].kill()
    world = await make_world(service(engines[0]))
    asked = asyncio.ensure_future((await client(world)).ask(request()))
    await asyncio.sleep(0.1)
    await engines[0].start()
    assert (await asked)[0] == 200
    found = world.gateway.registry.all()[0]
    assert (found.in_flight, found.replicas["sb-one"].candidate.prefill_tokens) == (0, 0)


async def test_a_second_one_is_asked_when_the_first_is_slow(make_world: Any, engines: list[Engine]) -> None:
    slow, fast = engines[:2]
    slow.then = lambda writer: asyncio.sleep(60)
    world = await make_world(service(slow, fast, routing={"policy": "round-robin", "hedge": 0.05}))
    caller = await client(world)
    for _ in range(4):
        status, head, _ = await caller.ask(request())
        assert status == 200
        assert "X-Skerry-Replica: sb-two" in head
    await until(lambda: slow.left >= len(slow.bodies))
    assert len(slow.bodies) > 1, "who lost is cancelled"
    fast.kill()
    slow.then = slow.answers
    assert (await caller.ask(request()))[0] == 200
    found = world.gateway.registry.all()[0]
    assert found.in_flight == 0
    assert {each.candidate.prefill_tokens for each in found.replicas.values()} == {0}


class Apart:
    """Prefill on the first, decode on the second."""

    name = "disaggregated"

    def pick(self, ask: Any, candidates: Any, now_s: float) -> Choice:
        prefill = next((at for at, each in enumerate(candidates) if each.role == "prefill"), -1)
        return Choice(next(at for at, each in enumerate(candidates) if each.role == "decode"), "apart", 0, prefill)

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


async def test_prefill_and_decode_apart(make_world: Any, engines: list[Engine]) -> None:
    prefill, decode = engines[:2]
    params = {"remote_engine_id": "e1", "remote_block_ids": [1, 2]}
    told = json.dumps({"kv_transfer_params": params}).encode()
    prefill.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
    routes = [
        each.route.model_copy(update={"role": role}) for each, role in ((prefill, Role.PREFILL), (decode, Role.DECODE))
    ]
    world = await make_world(service(routing={"policy": "disaggregated"}, replicas=routes))
    found = world.gateway.registry.all()[0]
    found.policy = Apart()
    owed: list[list[int]] = []
    says = prefill.then

    async def counted(writer: asyncio.StreamWriter) -> None:
        owed.append([each.candidate.prefill_tokens for each in found.replicas.values()])
        await says(writer)

    prefill.then = counted
    caller = await client(world)
    asked = {"model": "chat", "messages": [], "max_tokens": 50, "stream": True, "stream_options": {}}
    assert (await caller.ask(request(asked)))[0] == 200
    first, second = json.loads(prefill.bodies[0]), json.loads(decode.bodies[0])
    assert (first["max_tokens"], first["stream"], "stream_options" in first) == (1, False, False)
    assert first["kv_transfer_params"]["do_remote_decode"] is True
    assert second == {**asked, "kv_transfer_params": params}
    for answer in (BROKEN, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"):
        prefill.says(answer)
        assert (await caller.ask(request(asked)))[0] == 200
        assert json.loads(decode.bodies[-1]) == asked
    assert owed == [[len(request(asked).partition(b"\r\n\r\n")[2]) // 4, 0]], "where the prompt is computed"
    assert [each.candidate.prefill_tokens for each in found.replicas.values()] == [0, 0]
    assert found.in_flight == 0
