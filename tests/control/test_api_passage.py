"""What passes through to the agent: bytes both ways as they come, errors as they are, and both ends let go together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.control.conftest import Api

pytestmark = pytest.mark.anyio
ONE = "/v1/sandboxes/one"
SUBPROTOCOL = "v5.channel.k8s.io"


@pytest.fixture
async def box(api: Api) -> str:
    await api.image()
    return (await api.sandbox(name="one"))["id"]


async def eventually(api: Api, closed: int) -> None:
    for _ in range(2000):
        if api.agent.passage.closed_streams == closed:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{api.agent.passage.closed_streams} streams closed, not {closed}")


async def test_answers_and_errors_pass_unchanged(api: Api, box: str) -> None:
    read = await api.call("GET", f"{ONE}/files?path=/etc/hostname")
    assert (read.status, read.text, read.headers["Content-Type"]) == (200, "hello", "application/octet-stream")
    missing = await api.call("GET", f"{ONE}/files?path=/none")
    assert (missing.status, missing.json["error"]) == (
        404,
        {"code": "not_found", "message": "no such file: /none", "field": "path"},
    )
    bad = await api.call("POST", f"{ONE}/exec", {"command": ["bad"]})
    assert (bad.status, bad.json["error"]["field"]) == (400, "workdir")
    for ref in (box, box[:8], box[3:9]):
        assert (await api.call("GET", f"/v1/sandboxes/{ref}/stats")).json["pids"] == 1


async def test_big_files_stream_both_ways(api: Api, box: str) -> None:
    read = await api.call("GET", f"{ONE}/files?path=/big")
    assert len(read.text) == 64 * 65536

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 50_000

    written = await api.call("PUT", f"{ONE}/files?path=/w&mode=0644", data=chunks())
    assert (written.status, written.json["size_bytes"]) == (200, 5_000_000)
    told = await api.call("PUT", f"{ONE}/files?path=/w", data=b"y" * 5_000_000)
    assert told.json["size_bytes"] == 5_000_000
    empty = await api.call("PUT", f"{ONE}/files?path=/w", data=b"")
    assert empty.json["size_bytes"] == 0


async def test_refusal_before_the_body_was_read_arrives(api: Api, box: str) -> None:
    refused = await api.call("PUT", f"{ONE}/files?path=/refused", data=b"y" * 30_000_000)
    assert (refused.status, refused.json["error"]["field"]) == (400, "path")
    assert (await api.call("GET", f"{ONE}/stats")).status == 200


async def test_follower_gets_lines_at_once_and_leaving_ends_it(api: Api, box: str) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector()) as session:
        answer = await session.get(f"{api.tcp_base}{ONE}/logs?follow=true", headers=headers)
        async with asyncio.timeout(30):
            assert await answer.content.readline() == b"line 1\n"
            assert await answer.content.readline() == b"more\n"
        answer.close()
        await eventually(api, 1)


async def test_leaving_a_slow_command_ends_it(api: Api, box: str) -> None:
    api.agent.slow_s["exec"] = 30
    call = asyncio.ensure_future(api.call("POST", f"{ONE}/exec", {"command": ["sleep"]}))
    await asyncio.sleep(0.2)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    api.agent.slow_s.clear()
    # The fake agent handles one command of a sandbox after another: this one is answered only if that one has ended.
    async with asyncio.timeout(30):
        assert (await api.call("POST", f"{ONE}/exec", {"command": ["true"]})).status == 200


async def test_agent_that_is_away_or_goes_away(api: Api, box: str) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    follower = await api.session.get(f"{api.base}{ONE}/logs?follow=true", headers=headers)
    assert await follower.content.readline() == b"line 1\n"
    await api.agent.stop()
    with pytest.raises(aiohttp.ClientPayloadError):  # cut off, and not ended as if that were all
        await follower.content.read()
    away = await api.call("GET", f"{ONE}/stats")
    assert (away.status, away.json["error"]["code"], away.headers["Retry-After"]) == (503, "unavailable", "1")
    written = await api.call("PUT", f"{ONE}/files?path=/w", data=b"y" * 5_000_000)
    assert written.status == 503
    await api.agent.start()
    assert (await api.call("GET", f"{ONE}/stats")).status == 200


async def test_socket_carries_messages_and_the_close(api: Api, box: str) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    for base in (api.base, api.tcp_base):
        session = api.session if base == api.base else aiohttp.ClientSession()
        async with session.ws_connect(f"{base}{ONE}/exec", headers=headers, protocols=[SUBPROTOCOL]) as socket:
            assert socket.protocol == SUBPROTOCOL
            await socket.send_str('{"command":["sh"]}')
            assert await socket.receive_bytes() == b'\x01spec:{"command":["sh"]}'
            await socket.send_bytes(b"\x00" + b"z" * 200_000)
            assert len(await socket.receive_bytes()) == 200_001
            await socket.send_bytes(b"\x00quit")
            assert await socket.receive_bytes() == b'\x03{"code":0}'
            closed = await socket.receive()
            assert (closed.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1000)
        if session is not api.session:
            await session.close()


async def test_leaving_a_socket_closes_the_agents(api: Api, box: str) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    socket = await api.session.ws_connect(f"{api.base}{ONE}/exec", headers=headers)
    await socket.send_str("{}")
    await socket.receive_bytes()
    assert socket._response.connection is not None
    assert socket._response.connection.transport is not None
    socket._response.connection.transport.abort()  # as when the client's machine dies
    await eventually(api, 1)


async def test_agent_dying_closes_the_socket(api: Api, box: str) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    async with api.session.ws_connect(f"{api.base}{ONE}/exec", headers=headers) as socket:
        await socket.send_str("{}")
        await socket.receive_bytes()
        await api.agent.stop()
        async with asyncio.timeout(30):
            await socket.receive()
        assert socket.closed
        assert socket.close_code in (1001, 1011)


async def test_refused_socket_is_an_answer(api: Api, box: str) -> None:
    async def refusal(path: str, key: str) -> tuple[int, str]:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.session.ws_connect(api.base + path, headers={"Authorization": f"Bearer {key}"})
        return refused.value.status, refused.value.message

    assert (await refusal(f"{ONE}/exec", "sk_wrong"))[0] == 401
    assert (await refusal("/v1/sandboxes/none/exec", api.key))[0] == 404
    assert (await refusal("/v1/sandboxes", api.key))[0] in (403, 404)
    await api.call("POST", f"{ONE}/stop?wait_s=30")
    assert (await refusal(f"{ONE}/exec", api.key))[0] == 409
