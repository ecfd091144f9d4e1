"""The caller of gateways: many kept connections at once, each with a request at a time, timed to the microsecond.

A plain event-loop protocol, so that what it costs itself stays small beside what is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

ANSWER_S_MAX = 60.0


@dataclass
class Found:
    """What one run saw. Times in milliseconds."""

    seconds: float = 0.0
    asked: int = 0
    failed: int = 0
    chunks: int = 0
    took_ms: list[float] = field(default_factory=list[float])
    first_ms: list[float] = field(default_factory=list[float])


def request(
    port: int, *, stream: bool = False, prompt_bytes: int = 24, key: str | None = None, model: str = "mock"
) -> bytes:
    """As clients written for OpenAI's API send it."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": ("tell me more " * (prompt_bytes // 13 + 1))[:prompt_bytes]},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
    }
    if stream:
        body["stream"] = True
    data = json.dumps(body).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "User-Agent: OpenAI/Python 1.60.0",
        "X-Stainless-Lang: python",
        "X-Stainless-OS: Linux",
        "X-Stainless-Runtime: CPython",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + data


class Asker(asyncio.Protocol):
    """Asks until there is nothing more to ask."""

    def __init__(self, sent: bytes, found: Found, more: Callable[[], bool], gap_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._sent, self._found, self._more, self._gap_s = sent, found, more, gap_s
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._began = 0.0
        self._waits_first = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._found.failed += 1
            self.done.set_result(None)

    def _ask(self) -> None:
        assert self._transport is not None
        if not self._more():
            self.done.set_result(None)
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._waits_first = True
        self._began = time.perf_counter()
        self._found.asked += 1
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._found.chunks += 1
        if self._waits_first:
            self._waits_first = False
            self._found.first_ms.append((time.perf_counter() - self._began) * 1000)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._found.failed += 1
        self._found.took_ms.append((time.perf_counter() - self._began) * 1000)
        if self._gap_s:
            self._loop.call_later(self._gap_s, self._ask)
        else:
            self._loop.call_soon(self._ask)


async def load(port: int, sent: bytes, *, connections: int, requests: int, gap_s: float = 0.0) -> Found:
    """So many requests over so many connections; `gap_s` between an answer and the next request of a connection."""
    found = Found()
    left = requests

    def more() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: Asker(sent, found, more, gap_s), "127.0.0.1", port)
            for _ in range(connections)
        )
    )
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            await asyncio.gather(*(asker.done for _, asker in made))
    except TimeoutError:
        found.failed += requests - len(found.took_ms)
    found.seconds = time.perf_counter() - began
    for transport, _ in made:
        transport.abort()
    return found
