"""Replicas and control die while many ask: what had no first byte is answered, other replicas' streams go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.services.conftest import LAST, Client, Engine, client, event, request, service, until

pytestmark = pytest.mark.anyio
PARTS = 10


async def _ask(caller: Client) -> tuple[str, bool, bool]:
    """Which replica answered; whether its first byte came; whether the answer came to its end."""
    caller.writer.write(request())
    try:
        async with asyncio.timeout(30):
            head = (await caller.reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200 "), head
            replica = head.partition("X-Skerry-Replica: ")[2].partition("\r\n")[0]
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return "", False, False
    try:
        async with asyncio.timeout(30):
            rest = await caller.reader.readuntil(b"\r\n0\r\n\r\n")
            return replica, True, rest.count(b"data:") == PARTS
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return replica, True, False


@pytest.mark.parametrize("policy", ["round-robin", "least-load"])
async def test_nothing_is_lost_that_had_not_begun(make_world: Any, engines: list[Engine], policy: str) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(PARTS):
            writer.write(event(n=number))
            await asyncio.sleep(0.003)
        writer.write(LAST)

    for each in engines:
        each.then = slowly
    routing = {"policy": policy, "ejection": {"failures": 3, "seconds": 0.2, "share_max": 0.7}}
    world = await make_world(service(*engines, routing=routing))
    found: list[tuple[str, bool, bool]] = []

    async def asks(count: int) -> None:
        for _ in range(count):
            caller = await client(world)
            found.append(await _ask(caller))
            caller.writer.close()

    asking = [asyncio.ensure_future(asks(8)) for _ in range(24)]
    await until(lambda: len(found) >= 24)  # before that nobody would know the key
    engines[0].kill()
    await world.stop_control()
    await until(lambda: len(found) >= 72)
    engines[1].kill()
    await until(lambda: len(found) >= 96)
    await engines[0].start()
    await asyncio.gather(*asking)
    assert len(found) == 24 * 8
    assert all(begun for _, begun, _ in found), "each that had no first byte was answered by another"
    broken = [replica for replica, _, whole in found if not whole]
    assert set(broken) <= {"sb-one", "sb-two"}
    [known] = world.gateway.registry.all()
    await until(lambda: not known.in_flight)
    assert (known.in_flight, known.waiting) == (0, 0)
    assert {each.candidate.in_flight for each in known.replicas.values()} == {0}
    assert {each.candidate.prefill_tokens for each in known.replicas.values()} == {0}
    assert {each.candidate.decode_tokens for each in known.replicas.values()} == {0}
