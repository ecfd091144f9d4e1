"""Replicas that are functions of the test's own, and requests as clients of OpenAI's API send them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from skerry.model.service import EngineName, Routing, ServiceState
from skerry.model.traffic import RouteReplica, ServiceRoute
from tests.gateway.conftest import KEY, World, make_world

__all__ = ["make_world"]

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ANSWER = json.dumps({"object": "chat.completion", "choices": [], "usage": USAGE}).encode()
LAST = b"0\r\n\r\n"
DOOR = "models.test"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(**told: Any) -> bytes:
    return chunk(b"data: " + json.dumps(told).encode() + b"\n\n")


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Engine:
    """A model server. `then` answers a request; what came is kept in `heads` and `bodies`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.then: Callable[[asyncio.StreamWriter], Awaitable[None]] = self.answers
        self.connections = 0
        self.left = 0
        """Connections that were closed by the other side."""
        self.server: asyncio.Server | None = None
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self._open:
            writer.transport.abort()

    @property
    def route(self) -> RouteReplica:
        return RouteReplica(id=self.name, url=f"http://127.0.0.1:{self.port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("Content-Length:")),
                    0,
                )
                self.bodies.append(await reader.readexactly(length))
                self.heads.append(head)
                answering = asyncio.ensure_future(self.then(writer))
                watching = asyncio.ensure_future(_until_closed(reader, writer))
                await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                watching.cancel()
                if not answering.done():
                    answering.cancel()
                    break
                await answering
        except (asyncio.IncompleteReadError, OSError, RuntimeError):
            pass  # RuntimeError: uvloop's, for a write after `kill`
        finally:
            self.left += 1
            self._open.discard(writer)
            writer.close()

    async def answers(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER))
        writer.write(ANSWER)

    def says(self, answer: bytes, *, hangs_up: bool = False) -> None:
        async def then(writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            if hangs_up:
                await writer.drain()
                writer.close()

        self.then = then

    def streams(self, parts: list[bytes], pause_s: float = 0.0) -> None:
        async def then(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause_s)

        self.then = then


async def _until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing() and not reader.at_eof():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def service(*engines: Engine, name: str = "chat", **given: Any) -> ServiceRoute:
    routing = given.pop("routing", {"policy": "round-robin"})
    told: dict[str, Any] = {
        "id": f"sv-{name}",
        "name": name,
        "project": "default",
        "state": ServiceState.ACTIVE,
        "engine": EngineName.COMMAND,
        "models": [name],
        "public": False,
        "routing": Routing.model_validate(routing),
        "replicas": [each.route for each in engines],
    }
    return ServiceRoute(**{**told, **given})


def request(
    body: dict[str, Any] | bytes | None = None,
    *headers: str,
    path: str = "/v1/chat/completions",
    key: str | None = KEY,
    host: str = DOOR,
    method: str = "POST",
) -> bytes:
    given = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]} if body is None else body
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if method == "POST":
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + (data if method == "POST" else b"")


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, sent: bytes) -> tuple[int, str, bytes]:
        """Status, head, body."""
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, str, bytes]:
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lower = head.lower()
            if "transfer-encoding: chunked" in lower:
                body = b""
                while not body.endswith(b"0\r\n\r\n"):
                    body += await self.reader.readuntil(b"\r\n")
            else:
                length = int(lower.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                body = await self.reader.readexactly(length)
        return int(head.split(" ", 2)[1]), head, body


async def client(world: World) -> Client:
    return Client(*await world.open())


@pytest.fixture
async def engines() -> AsyncIterator[list[Engine]]:
    made = [Engine(name) for name in ("sb-one", "sb-two", "sb-three")]
    for each in made:
        await each.start()
    yield made
    for each in made:
        each.kill()
