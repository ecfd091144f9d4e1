"""What two servers could read differently never reaches a sandbox, and what reaches it was written by us."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.conftest import World, body, read_head, status

pytestmark = pytest.mark.anyio
HOST = b"Host: open--80.boxes.test\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST

REFUSED = {
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are none": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks first": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a tab before chunked's name": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: open--80.boxes.test\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "a lone carriage return": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "a line before the first": b"GET / HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: open--80.boxes.test/x\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: a@open--80.boxes.test\r\n\r\n",
    "a whole URL": b"GET http://web--80.boxes.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT open--80.boxes.test:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in words": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "an upgrade with a body": POST + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    "h2c with a body": POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    "a WebSocket by POST": POST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
}


@pytest.mark.parametrize("case", REFUSED)
async def test_it_is_refused_and_the_sandbox_hears_nothing(world: World, case: str) -> None:
    answer = await world.raw(REFUSED[case])
    assert status(answer) == 400, answer
    assert b"Connection: close" in answer
    assert world.asked == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-1\r\n",
        b"f" * 17,
    ],
)
async def test_chunks_that_are_none_end_the_connection(world: World, chunks: bytes) -> None:
    bodies: list[bytes] = []

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        world.heads.append(await read_head(reader))
        bodies.append(await reader.read(-1))

    world.guest = guest
    hidden = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await world.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + hidden)
    assert status(answer) == 400
    assert all(b"smuggled" not in head for head in world.heads)
    assert all(b"smuggled" not in each and not each.endswith(b"0\r\n\r\n") for each in bodies)


async def test_a_body_is_framed_anew(world: World) -> None:
    whole: list[bytes] = []

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole.append(await read_head(reader))
        whole.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    world.guest = guest
    sent = POST + b"Transfer-Encoding: Chunked\r\n\r\n3;name=value\r\nabc\r\n0\r\nX-Trailer: x\r\n\r\n"
    reader, writer = await world.open()
    writer.write(sent)
    assert status(await read_head(reader)) == 204
    writer.close()
    assert whole[1] == b"3\r\nabc\r\n0\r\n\r\n"
    assert b"Transfer-Encoding: chunked\r\n" in whole[0]


async def test_what_follows_a_closing_request_is_not_one(world: World) -> None:
    first = b"GET /1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = await world.raw(first + b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert body(answer) == b"ok"
    assert len(world.heads) == 1


async def test_another_protocol_than_websocket_is_an_ordinary_request(world: World) -> None:
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    last = b"GET /2 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = await world.raw(b"GET /1 HTTP/1.1\r\n" + HOST + h2c + last)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert all(b"pgrade" not in head and b"HTTP2-Settings" not in head for head in world.heads)


async def test_an_answer_that_is_read_two_ways_is_not_passed_on(world: World) -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
    ):
        world.answering(answer)
        assert status(await world.get()) == 502, answer


async def test_a_second_answer_to_one_request_reaches_nobody(world: World) -> None:
    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        world.heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await reader.read(-1)

    world.guest = guest
    for _ in range(3):
        assert body(await world.get()) == b"1"
    assert len(world.asked) == 3, "such a connection is not used again"
