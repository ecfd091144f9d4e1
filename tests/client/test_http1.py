"""The blocking client's own HTTP against a server that sends exactly these bytes."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable

import pytest

from skerry.client.http1 import Connection, Response


def exchange(
    answer: bytes, ask: Callable[[Connection], None] | None = None, pieces: int = 1, last: bytes = b"\r\n\r\n"
) -> tuple[Response, Connection, list[bytes]]:
    """The response to one request, and what the server was sent up to `last`; the answer goes out in so many pieces."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    asked: list[bytes] = []

    def serve() -> None:
        text = b""
        while not text.endswith(last):
            text += theirs.recv(65536)
        asked.append(text)
        size = max(1, -(-len(answer) // pieces))
        for at in range(0, len(answer), size):
            theirs.sendall(answer[at : at + size])
        theirs.close()

    server = threading.Thread(target=serve)
    server.start()
    connection = Connection("box", lambda: ours)
    (ask or (lambda each: each.request("GET", "/x", {"Accept": "a"}, None)))(connection)
    try:
        return connection.response(), connection, asked
    finally:
        server.join()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nT: 1\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 7, len(CHUNKED)])
def test_chunks_come_together(pieces: int) -> None:
    response, connection, asked = exchange(CHUNKED, pieces=pieces)
    assert response.read(1000) == b"hello world"
    assert response.ended
    assert not response.will_close
    assert asked[0] == b"GET /x HTTP/1.1\r\nHost: box\r\nAccept-Encoding: identity\r\nAccept: a\r\n\r\n"
    connection.close()


def test_a_chunk_is_given_before_the_next_one_comes() -> None:
    response, connection, _ = exchange(CHUNKED)
    assert (response.read_some(3), response.read_some(100), response.read_some(100)) == (b"hel", b"lo", b" world")
    connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(answer: bytes) -> None:
    with pytest.raises(EOFError):
        exchange(answer)[0].read(1000)


def test_no_answer_at_all_may_be_asked_again() -> None:
    with pytest.raises(ConnectionResetError):
        exchange(b"")


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"A" * 70_000])
def test_what_is_no_http_is_told_apart(answer: bytes) -> None:
    with pytest.raises(ValueError):
        exchange(answer)


def test_without_a_length_the_end_of_the_connection_ends_it() -> None:
    response, _, _ = exchange(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello")
    assert response.read(1000) == b"hello"
    assert response.will_close


def test_a_body_of_unknown_length_goes_out_in_chunks() -> None:
    def ask(connection: Connection) -> None:
        connection.request("PUT", "/x", {}, io.BytesIO(b"abc"))

    _, _, asked = exchange(b"HTTP/1.1 204 No Content\r\n\r\n", ask, last=b"0\r\n\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in asked[0]
    assert asked[0].partition(b"\r\n\r\n")[2] == b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize(("target", "value"), [("/x", "a\r\nEvil: 1"), ("/x y", "a"), ("/x\n", "a")])
def test_nothing_is_smuggled_into_the_head(target: str, value: str) -> None:
    connection = Connection("box", lambda: socket.socketpair()[0])
    with pytest.raises(ValueError):
        connection.request("GET", target, {"Authorization": value}, None)
    connection.close()
