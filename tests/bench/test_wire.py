"""Answers that end as they should not, or otherwise than most do, by a server that writes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from skerry.bench.client.pool import Opening, Pool
from skerry.bench.client.target import read_url
from skerry.bench.contract import Api, Fault, Record, Request
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.bench.run import run
from tests.bench.server import Server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
TOKEN = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
DEADLINE_S = 30.0


@contextmanager
def server(says: bytes, *, closes: bool = True) -> Iterator[tuple[int, threading.Event]]:
    """Its port, and whether the other side has closed a connection that it has not."""
    left = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(says)
            if not closes:
                connection.settimeout(DEADLINE_S)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(1) == b""
                left.set()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1], left
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def asked(port: int, **more: object) -> Record:
    load = {"rate": 100, "requests": 1}
    return next(iter(run(read_here(Plan, {"url": f"http://127.0.0.1:{port}", "model": "m", "load": load, **more}))))


@pytest.mark.parametrize(
    ("says", "fault", "tokens"),
    [
        (HEAD + b"\r\n" + TOKEN * 3, None, 3),  # it ends with the connection, and without [DONE]
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNK * 3 + b"0\r\n\r\n", None, 3),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNK * 3, Fault.CLOSED, 0),
        (HEAD + b"content-length: 9999\r\n\r\n" + TOKEN, Fault.CLOSED, 0),
        (b"", Fault.CLOSED, 0),
        (b"SSH-2.0-OpenSSH\r\n", Fault.CLOSED, 0),
    ],
)
def test_an_answer_ends_with_its_last_chunk_or_with_the_connection_where_it_says_no_length(
    says: bytes, fault: Fault | None, tokens: int
) -> None:
    with server(says) as (port, _):
        found = asked(port)
    assert (found.fault, found.output_tokens) == (fault, tokens)


def test_what_is_given_up_is_closed_on_a_new_connection_too() -> None:
    """So that a server need not go on with what nobody waits for."""
    says = HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNK

    async def give_up(port: int) -> list[str]:
        pool = Pool(read_url(f"http://127.0.0.1:{port}"))
        told: list[str] = []
        _, opening = pool.send(Request(0, Api.CHAT, b"{}"), lambda answer, why: told.append(why))
        assert isinstance(opening, Opening)
        async with asyncio.timeout(DEADLINE_S):
            assert opening.task is not None
            await opening.task
        opening.abort("too slow")
        await asyncio.to_thread(left.wait, DEADLINE_S)
        return told

    with server(says, closes=False) as (port, left):
        assert asyncio.run(give_up(port)) == ["too slow"]
        assert left.is_set()


def test_spare_connections_are_ready_and_others_take_the_place_of_those_that_are_used() -> None:
    server = Server()

    def wait_for_four() -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while server.connections < 4 and time.monotonic() < deadline_s:
            time.sleep(0.01)

    async def use() -> None:
        pool = Pool(read_url(f"http://127.0.0.1:{server.port}"), spare=3)
        await pool.warm(1)
        over = asyncio.Event()
        _, wire = pool.send(Request(0, Api.CHAT, b"{}"), lambda answer, why: over.set())
        assert not isinstance(wire, Opening)
        async with asyncio.timeout(DEADLINE_S):
            await over.wait()
            await asyncio.to_thread(wait_for_four)
        pool.close()

    try:
        asyncio.run(use())
    finally:
        server.close()
    assert server.connections == 4
