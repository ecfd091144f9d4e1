"""Messages both ways: what is passed on, in which form, and how soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.gateway.conftest import KEY, OK, OPEN, WEB, World, body, read_head, status

pytestmark = pytest.mark.anyio
HOST = b"Host: open--80.boxes.test\r\n"


def lines(head: bytes) -> list[str]:
    return head.decode().split("\r\n")


async def test_our_own_and_the_hops_headers_stay_here(world: World) -> None:
    token = world.token()
    await world.get(
        f"/p%20q?a=1&skerry_token={token}&b=%26",
        WEB,
        f"Authorization: Bearer {KEY}",
        f"Cookie: one=1; skerry_url={token}; two=2",
        "X-Forwarded-For: 6.6.6.6",
        "X_Forwarded_Proto: https",
        "X-Forwarded-User: root",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "Proxy-Authorization: Basic eA==",
        "TE: trailers",
        "Keep-Alive: timeout=5",
        "Connection: X-Hop, close, X-Forwarded-For, Host, Cookie",
        "X-Hop: secret",
        "X-Stays: yes",
    )
    assert lines(world.heads[0])[0] == "GET /p%20q?a=1&b=%26 HTTP/1.1"
    assert sorted(lines(world.heads[0])[1:-2]) == [
        "Cookie: one=1; two=2",
        "Host: web--80.boxes.test",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: web--80.boxes.test",
        "X-Forwarded-Proto: http",
        "X-Stays: yes",
    ]


async def test_only_our_own_authorization_stays_here(world: World) -> None:
    for given, stays in (("Basic YTpi", True), ("Bearer app-token", True), (f"Bearer {KEY}", False)):
        world.heads.clear()
        await world.get("/?skerry_token=" + world.token(), WEB, f"Authorization: {given}")
        assert (f"Authorization: {given}" in lines(world.heads[0])) is stays
    await world.get("/", OPEN, f"bearer-like: {KEY}", f"AUTHORIZATION: bearer {KEY}")
    assert "uthorization" not in world.heads[-1].decode()


async def test_a_cookie_of_a_sandbox_stays_with_its_host(world: World) -> None:
    world.answering(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Domain=boxes.test; Path=/\r\nSet-Cookie: skerry_url=x; Path=/\r\n"
        b"set-cookie: b=2;domain=.boxes.test\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
    )
    answer = await world.get()
    assert b"Set-Cookie: a=1; Path=/\r\n" in answer
    assert b"set-cookie: b=2\r\n" in answer
    assert b"skerry_url" not in answer
    assert b"X-Hop" not in answer


@pytest.mark.parametrize(
    ("method", "answer", "wanted"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n"),
        (
            "GET",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        ),
    ],
)
async def test_answers_without_a_body(world: World, method: str, answer: bytes, wanted: bytes) -> None:
    world.answering(answer)
    came = await world.get(method=method)
    assert came == wanted + b"Connection: close\r\n\r\n" + (b"ok" if answer.endswith(OK) else b"")


async def test_a_body_that_ends_with_the_connection_is_told_apart_from_one_that_broke(world: World) -> None:
    world.answering(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert body(await world.get()) == b"5\r\nhello\r\n0\r\n\r\n"
    old = await world.raw(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    assert body(old) == b"hello"
    assert b"chunked" not in old
    for broken in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ):
        world.answering(broken)
        try:
            assert not (await world.get()).endswith(b"0\r\n\r\n")
        except ConnectionResetError:
            pass


async def test_one_connection_carries_many_requests_in_order(world: World) -> None:
    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await read_head(reader)).split()[1]
            await asyncio.sleep(0.05 if path == b"/0" else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    world.guest = guest
    ahead = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(9))
    answer = await world.raw(ahead + b"GET /9 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert [part[:2] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/%d" % number for number in range(10)]
    assert len(world.asked) == 1, "one connection to the sandbox carries them too"


async def test_too_many_requests_ahead_end_the_connection(world: World) -> None:
    answer = await world.raw((b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 200)
    assert 1 <= answer.count(b"HTTP/1.1 200") <= 34
    assert b"HTTP/1.1 400" in answer


async def test_a_used_connection_that_turns_out_closed_costs_the_caller_nothing(world: World) -> None:
    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(OK)
        await reader.readexactly(1)  # takes the next request, and dies of it

    world.guest = guest
    assert [body(await world.get()) for _ in range(3)] == [b"ok"] * 3
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nConnection: close\r\n\r\nx"
    before = len(world.asked)
    assert status(await world.raw(post)) == 200
    assert len(world.asked) == before + 1, "what must not be sent twice is sent on a new connection"


async def test_events_and_parts_pass_as_they_come(world: World) -> None:
    go = asyncio.Event()

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"7\r\ndata: 1\r\n")
        await go.wait()
        writer.write(b"7\r\ndata: 2\r\n0\r\n\r\n")

    world.guest = guest
    reader, writer = await world.open()
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    async with asyncio.timeout(30):
        await read_head(reader)
        assert await reader.readuntil(b"1\r\n") == b"7\r\ndata: 1\r\n"
        go.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"7\r\ndata: 2\r\n0\r\n\r\n"
    writer.close()


async def test_a_body_passes_as_it_comes(world: World) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await read_head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        for _ in range(2):
            came.put_nowait(await reader.readexactly(3))
        writer.write(OK)

    world.guest = guest
    reader, writer = await world.open()
    writer.write(b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 6\r\n\r\n")
    async with asyncio.timeout(30):
        assert status(await read_head(reader)) == 100
        for part in (b"abc", b"def"):
            writer.write(part)
            assert await came.get() == part
        assert status(await read_head(reader)) == 200
    writer.close()


async def test_a_slow_reader_slows_its_sandbox_down(world: World) -> None:
    written = 0

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while written < 256 * 1024**2:
            writer.write(bytes(1024**2))
            await writer.drain()
            written += 1024**2

    world.guest = guest
    _, writer = await world.open()
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await asyncio.sleep(0.5)
    assert written < 64 * 1024**2
    writer.transport.abort()


WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nOrigin: http://a\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


async def test_a_websocket_is_a_pipe_from_then_on(world: World) -> None:
    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        world.heads.append(await read_head(reader))
        writer.write(AGREED + b"hello")
        while data := await reader.read(100):
            writer.write(data.upper())

    world.guest = guest
    reader, writer = await world.open()
    writer.write(WEBSOCKET + b"early")  # before it is agreed
    async with asyncio.timeout(30):
        head = await read_head(reader)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: x\r\n" in head
        assert await reader.readexactly(10) == b"helloEARLY"
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"
        writer.close()
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in world.heads[0]


async def test_a_refused_websocket_does_not_make_a_request_of_what_follows(world: World) -> None:
    world.answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    answer = await world.raw(WEBSOCKET + b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
    assert status(answer) == 403
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(world.heads) == 1


async def test_a_caller_that_leaves_ends_what_it_began(world: World) -> None:
    ended = asyncio.Event()

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read(1)
        ended.set()

    world.guest = guest
    _, writer = await world.open()
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await asyncio.sleep(0.05)
    writer.close()
    async with asyncio.timeout(30):
        await ended.wait()


async def test_too_much_is_refused(make_world: Callable[..., Awaitable[World]]) -> None:
    world = await make_world(url_body_bytes_max=2048)
    post = b"POST / HTTP/1.1\r\n" + HOST
    assert status(await world.raw(post + b"Content-Length: 2049\r\n\r\n")) == 413
    assert world.heads == []
    assert status(await world.raw(post + b"Transfer-Encoding: chunked\r\n\r\n801\r\n" + bytes(2049) + b"\r\n")) == 413
    assert status(await world.raw(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n")) == 431
    assert status(await world.raw(b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 200 + b"\r\n")) == 431
    world.answering(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n")
    assert status(await world.get()) == 502
