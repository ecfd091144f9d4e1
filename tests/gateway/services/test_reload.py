"""Gateways replaced while they serve, and several of them on one address."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skerry.gateway.siblings import merged
from skerry.model.token import Limits
from skerry.model.traffic import Access, Take, Taken, UsageReport
from tests.gateway.conftest import TOKEN, World
from tests.gateway.services.conftest import LAST, Engine, client, event, request, service
from tests.gateway.services.supervised import gone, supervised
from tests.gateway.test_tls import certificate

pytestmark = pytest.mark.anyio
MakeWorld = Callable[..., Awaitable[World]]


async def test_a_stream_goes_on_while_the_gateway_is_replaced(make_world: MakeWorld, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    gate = asyncio.Event()

    async def then(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(event(text="first"))
        await gate.wait()
        writer.write(event(text="last") + LAST)

    async with supervised(world) as served:
        [before] = await served.pids()
        assert before is not None
        engines[0].then = then
        caller = await client(world)
        caller.writer.write(request())
        async with asyncio.timeout(30):
            await caller.reader.readuntil(b"first")
        engines[0].then = engines[0].answers
        kept = await client(world)
        statuses: list[int] = []
        over = asyncio.Event()

        async def ask() -> None:
            """One on a connection of its own after the other, while the one process follows the other."""
            while not over.is_set():
                one = await client(world)
                statuses.append((await one.ask(request()))[0])
                one.writer.close()

        asking = asyncio.create_task(ask())
        assert (await kept.ask(request()))[0] == 200
        await served.reload()
        async with asyncio.timeout(30):
            says_so = False
            while not says_so:  # the old one answers on until it has been told, and then says that it goes
                status, head, _ = await kept.ask(request())
                statuses.append(status)
                says_so = "Connection: close" in head
        over.set()
        await asking
        assert set(statuses) == {200}
        assert os.path.exists(f"/proc/{before}"), "it has a stream to end"
        gate.set()
        async with asyncio.timeout(30):
            assert b"last" in await caller.reader.readuntil(b"0\r\n\r\n")
        await gone(before)
        fresh = await client(world)
        assert (await fresh.ask(request()))[0] == 200


async def test_what_a_stream_uses_after_its_gateway_was_replaced_is_counted_once_and_holds_its_part_of_limits(
    make_world: MakeWorld, engines: list[Engine]
) -> None:
    world = await make_world(service(engines[0]))
    limits = Limits(concurrency=2, budget_tokens=10_000)
    world.access[TOKEN] = Access(project="default", client="ann", id="tk-1", limits=limits)
    world.taken = lambda take: Taken(
        requests=take.requests, tokens=take.tokens, concurrency=take.concurrency, for_s=2, budget_left=5_000
    )
    gate = asyncio.Event()

    async def then(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(event(text="first"))
        await gate.wait()
        writer.write(event(usage={"prompt_tokens": 7, "completion_tokens": 3}) + LAST)

    def takes(of: str) -> list[Take]:
        return [told for told in world.told if isinstance(told, Take) and told.gateway == of]

    async with supervised(world) as served:
        [before] = await served.pids()
        assert before is not None
        engines[0].then = then
        caller = await client(world)
        caller.writer.write(request({"model": "chat", "max_tokens": 50, "stream": True}, key=TOKEN))
        async with asyncio.timeout(30):
            await caller.reader.readuntil(b"first")
        old = next(told.gateway for told in world.told if isinstance(told, Take))
        await served.reload()
        told_before = len(takes(old))
        async with asyncio.timeout(30):
            while len(takes(old)) < told_before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert takes(old)[-1].concurrency == 1, "what it has begun is still one of two"
        assert takes(old)[-1].set_aside >= 50
        world.deaf = True
        gate.set()
        async with asyncio.timeout(30):
            await caller.reader.readuntil(b"0\r\n\r\n")
        await asyncio.sleep(1.5)  # control is away when it would say its last word
        assert os.path.exists(f"/proc/{before}")
        world.deaf = False
        await gone(before)
        spent = [told.spent for told in world.told if isinstance(told, UsageReport) and told.spent]
        assert spent == [{"tk-1": 10}]


async def shown_to(world: World) -> bytes:
    """The certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def test_a_renewed_certificate_comes_in_and_a_broken_one_does_not(make_world: MakeWorld, tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    world = await make_world(url_certificate=made, url_key=key)
    async with supervised(world) as served:
        before, first = await served.pids(), await shown_to(world)
        good = made.read_text()
        made.write_text("nothing")
        served.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while "cannot be replaced" not in served.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        made.write_text(good)
        assert (await served.pids(), await shown_to(world)) == (before, first), "the one that was there goes on"
        certificate(tmp_path)
        await served.reload()
        async with asyncio.timeout(30):
            while await shown_to(world) == first:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_gateway_that_is_killed_lets_nobody_be_refused(make_world: MakeWorld, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    async with supervised(world) as served:
        [pid] = await served.pids()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        one = await client(world)  # before the next one runs: it waits in the line that the supervisor holds
        one.writer.write(request())
        async with asyncio.timeout(30):
            head = await one.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")


async def test_two_gateways_share_a_limit_and_are_read_in_one_place(
    make_world: MakeWorld, engines: list[Engine]
) -> None:
    most, asked = 20, 60
    world = await make_world(service(engines[0]))
    limits = Limits(requests_per_minute=most)
    world.access[TOKEN] = Access(project="default", client="ann", id="tk-1", limits=limits)
    left = most

    def take(take: Take) -> Taken:
        nonlocal left
        given = min(take.requests, left)
        left -= given
        return Taken(requests=given, tokens=0, concurrency=0, for_s=60, gateways=2)

    world.taken = take
    async with supervised(world, 2) as served:
        statuses: list[int] = []
        for _ in range(asked):
            one = await client(world)
            statuses.append((await one.ask(request(key=TOKEN)))[0])
            one.writer.close()
        assert (statuses.count(200), statuses.count(429)) == (most, asked - most)
        assert len({told.gateway for told in world.told if isinstance(told, Take)}) == 2
        text = await served.metrics()
        rows = re.findall(r'skerry_gateway_requests_total\{.*code="(\d+)",worker="([01])"\} (\d+)', text)
        assert {worker for _, worker, _ in rows} == {"0", "1"}
        assert sum(int(count) for _, _, count in rows) == asked
        assert text.count("# TYPE skerry_gateway_requests_total") == 1


def test_rows_of_several_are_told_apart() -> None:
    text = '# HELP a Of it.\n# TYPE a counter\na{b="c"} 1\n# HELP d Of that.\n# TYPE d gauge\nd 2\n'
    assert merged({0: text, 1: text}) == (
        '# HELP a Of it.\n# TYPE a counter\na{b="c",worker="0"} 1\na{b="c",worker="1"} 1\n'
        '# HELP d Of that.\n# TYPE d gauge\nd{worker="0"} 2\nd{worker="1"} 2\n'
    )
