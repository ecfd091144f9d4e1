"""A model server that is also the truth: it streams tokens, each a write of its own, and keeps when it wrote each.

`python exact_mock.py PORT [--first-ms LEAST:MOST] [--each-ms LEAST:MOST] [--tokens N]`: times of a uniform
distribution; without them as fast as it is read. `GET /times` tells, on the clock of time.monotonic(), when each
request had come in whole and when each token was written, and forgets them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
from array import array
from time import monotonic
from typing import NamedTuple, cast

import httptools
import uvloop

MODEL = "mock"
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
PRIORITY = 10
"""Of SCHED_FIFO: whom it serves must not keep it from writing on time."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: dict[str, object]) -> bytes:
    about = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1_700_000_000}
    return _chunk(b"data: " + json.dumps({**about, "model": MODEL, **body}).encode() + b"\n\n")


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


TOKEN = _delta({"content": " token"})


class Paces(NamedTuple):
    first_ms: tuple[float, float]
    each_ms: tuple[float, float]
    tokens: int


class Stream:
    """One answer under way."""

    __slots__ = ("left", "next_s", "times", "transport")

    def __init__(self, transport: asyncio.Transport, times: array[float], tokens: int, next_s: float) -> None:
        self.transport, self.times, self.left, self.next_s = transport, times, tokens, next_s


class Truth:
    def __init__(self, paces: Paces) -> None:
        self.paces = paces
        self.chance = random.Random(7)
        self.log: list[array[float]] = []
        """Of each request: when it came in, then when each token was written."""
        usage = {"prompt_tokens": 64, "completion_tokens": paces.tokens, "total_tokens": 64 + paces.tokens}
        last = _delta({}, "stop") + _event({"choices": [], "usage": usage})
        self.end = last + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def told(self) -> bytes:
        body = json.dumps([[round(each, 7) for each in times] for times in self.log]).encode()
        self.log.clear()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Mock(asyncio.Protocol):
    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_message_complete(self) -> None:
        if self._transport is None:
            return
        if self._path.startswith(b"/times"):
            self._transport.write(self._truth.told())
        elif self._path.startswith(b"/v1/chat/completions"):
            self._begin()
        else:
            body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self._transport.write(head % len(body) + body)

    def _begin(self) -> None:
        assert self._transport is not None
        truth = self._truth
        now_s = monotonic()
        times = array("d", [now_s])
        truth.log.append(times)
        self._transport.write(HEAD)
        stream = Stream(self._transport, times, truth.paces.tokens, now_s)
        self._wait(stream, truth.paces.first_ms)

    def _wait(self, stream: Stream, ms: tuple[float, float]) -> None:
        if ms[1]:
            stream.next_s += self._truth.chance.uniform(*ms) / 1000
            self._loop.call_later(max(0.0, stream.next_s - monotonic()), self._token, stream)
        else:
            self._loop.call_soon(self._token, stream)

    def _token(self, stream: Stream) -> None:
        if self._transport is None:
            return
        stream.left -= 1
        stream.times.append(monotonic())
        stream.transport.write(TOKEN)
        if stream.left:
            self._wait(stream, self._truth.paces.each_ms)
        else:
            stream.transport.write(self._truth.end)


async def serve(port: int, truth: Truth) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Mock(truth), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def _range(text: str) -> tuple[float, float]:
    least, _, most = text.partition(":")
    return float(least), float(most or least)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--first-ms", type=_range, default=(0.0, 0.0))
    parser.add_argument("--each-ms", type=_range, default=(0.0, 0.0))
    parser.add_argument("--tokens", type=int, default=32)
    chosen = parser.parse_args()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    gc.disable()
    uvloop.run(serve(chosen.port, Truth(Paces(chosen.first_ms, chosen.each_ms, chosen.tokens))))
