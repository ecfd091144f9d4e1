"""The floor for a client in Python: an event loop's protocol that sends one request over and over and notes when bytes
come.

`python plain_client.py PORT --requests N (--concurrency N | --rate N) OUT`: no schedule but a sorted list, no data, no
reading of what comes beside counting. Leaves the seconds to each first token, and between tokens, in OUT.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import httptools
import uvloop

BODY = json.dumps(
    {
        "model": "mock",
        "messages": [{"role": "user", "content": "tell me more " * 21}],
        "max_tokens": 32,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
).encode()


class Asker(asyncio.Protocol):
    def __init__(self, over: Callable[[Asker], None]) -> None:
        self._over = over
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._now = 0.0
        self.moments: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, sent: bytes) -> None:
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self.moments = [monotonic()]
        self._transport.write(sent)

    def data_received(self, data: bytes) -> None:
        self._now = monotonic()
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        if b'"content"' in data:
            self.moments.append(self._now)

    def on_message_complete(self) -> None:
        self._over(self)


async def ask(port: int, requests: int, concurrency: int, rate: float | None) -> list[list[float]]:
    loop = asyncio.get_running_loop()
    sent = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    idle: list[Asker] = []
    found: list[list[float]] = []
    asked = 0
    done = asyncio.Event()

    def over(asker: Asker) -> None:
        found.append(asker.moments)
        idle.append(asker)
        if len(found) == requests:
            done.set()
        elif rate is None:
            more()

    def more() -> None:
        nonlocal asked
        if asked < requests:
            asked += 1
            idle.pop().ask(sent)

    for _ in range(concurrency):
        _, asker = await loop.create_connection(lambda: Asker(over), "127.0.0.1", port)
        idle.append(asker)
    if rate is None:
        for _ in range(concurrency):
            more()
    else:
        began = loop.time()
        for at in range(requests):
            loop.call_at(began + at / rate, more)
    await done.wait()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rate", type=float)
    parser.add_argument("out")
    chosen = parser.parse_args()
    every = uvloop.run(ask(chosen.port, chosen.requests, chosen.concurrency, chosen.rate))
    ttfts = [moments[1] - moments[0] for moments in every]
    itls = [after - before for moments in every for before, after in itertools.pairwise(moments[1:])]
    with open(chosen.out, "w") as out:
        json.dump({"ttft_s": ttfts, "itl_s": itls}, out)
