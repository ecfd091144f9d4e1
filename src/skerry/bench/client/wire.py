"""One connection: writes a request, keeps what comes back with the moment at which it came, and says when it is over.

While an answer comes nothing is looked into: bytes and moments are kept, and read when the answer is complete. That is
what lets one core take thousands of streams without delaying the moments that it takes down.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import httptools

HEAD_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024**2


class Answer:
    """Raw: parts of the body with the moments at which they came."""

    __slots__ = ("began_s", "bytes", "ended_s", "headers", "moments", "parts", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.moments: list[float] = []
        self.bytes = 0
        self.began_s = 0.0
        self.ended_s = 0.0

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def ends_with_connection(self) -> bool:
        """RFC 9112, section 6.3: it says neither its length nor that it comes in chunks."""
        return self.status >= 200 and not self.header(b"content-length") and not self.header(b"transfer-encoding")


Over = Callable[["Answer | None", str], None]
"""None with why, where it ended before the answer had."""


class Wire(asyncio.Protocol):
    def __init__(self, free: Callable[[Wire], None], lost: Callable[[Wire], None]) -> None:
        self._free = free
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._over: Over | None = None
        self._now = 0.0
        self._fd: int | None = None
        """Of the socket, where it takes bytes as they are: without TLS."""

    def send(self, data: bytes, over: Over) -> float:
        """The moment at which it was. `data`: head and body. One at a time."""
        self._over = over
        self._answer = Answer()
        assert self._transport is not None
        now_s = monotonic()
        # Not by the transport where that can be helped: uvloop writes when all else of a turn of the loop is done, so
        # that of many that are sent in one turn the first would leave with the last, milliseconds after their moment.
        if self._fd is not None:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:  # it is full, or broken: then the transport finds out
                pass
        if data:
            self._transport.write(data)
        return now_s

    def abort(self, why: str) -> None:
        """Whoever waits for the answer is told."""
        if self._transport is not None:
            self._fd = None
            self._transport.abort()
        self._end(None, why)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("sslcontext") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        self._now = monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._fd = None
        if exc is None and self._answer is not None and self._answer.ends_with_connection:
            self._now = monotonic()
            self.on_message_complete()
        self._end(None, "the connection was closed" if exc is None else f"{exc}")
        self._lost(self)

    # The parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.status = self._parser.get_status_code()
            self._answer.began_s = self._now

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.parts.append(data)
        answer.moments.append(self._now)
        answer.bytes += len(data)
        if answer.bytes > ANSWER_BYTES_MAX:
            self.abort(f"the answer is larger than {ANSWER_BYTES_MAX // 1024**2} MiB")

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or answer.status < 200:
            return
        answer.ended_s = self._now
        keeps = self._parser.should_keep_alive()
        # The next answer begins with a parser that knows nothing of this one.
        self._parser = httptools.HttpResponseParser(self)
        over, self._over, self._answer = self._over, None, None
        if keeps and self._transport is not None:
            self._free(self)  # first: whoever is told may send the next at once
        elif self._transport is not None:
            self._transport.close()
        if over is not None:
            over(answer, "")

    def _end(self, answer: Answer | None, why: str) -> None:
        over, self._over, self._answer = self._over, None, None
        if over is not None:
            over(answer, why)
