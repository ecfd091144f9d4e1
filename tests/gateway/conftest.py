"""The gateway as it is served, between a caller of raw bytes and a sandbox that is a function of the test's own."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skerry.gateway.app import Gateway
from skerry.gateway.ending import Ending
from skerry.model.sandbox import S
from skerry.model.traffic import (
    ACCESS,
    TAKE,
    TRAFFIC,
    USAGE,
    Access,
    ServiceRoute,
    Take,
    Taken,
    TrafficReport,
    UsageReport,
)
from skerry.model.url import Route, RouteNews, sign
from skerry.serve.listeners import bind
from skerry.settings import Settings
from skerry.telemetry import Log

KEY = "sk_" + "a" * 64
TOKEN = "st_" + "c" * 64
SECRET = bytes(range(32))
Guest = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OPEN, WEB = "open--80.boxes.test", "web--80.boxes.test"
"""A public sandbox and a private one."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


class World:
    """`guest` is the sandbox; `asked` is what the agent was asked; `heads` what the sandbox was sent."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(
            data_dir=folder, run_dir=folder, url_listen="127.0.0.1:0", url_domain="boxes.test", **settings
        )
        self.settings.url_secret_path.write_text(SECRET.hex())
        self.routes = [
            Route(id="sb-0123456789ab", name="web", project="default", state=S.RUNNING, public=False),
            Route(id="sb-ba9876543210", name="open", project="default", state=S.RUNNING, public=True),
            Route(id="sb-00000000000f", name="foreign", project="other", state=S.RUNNING, public=False),
        ]
        self.services: list[ServiceRoute] = []
        self.access: dict[str, Access] = {KEY: Access(project="default", client="key", id="k1")}
        self.taken: Callable[[Take], Taken] = lambda take: Taken(
            requests=take.requests, tokens=take.tokens, concurrency=take.concurrency, for_s=60
        )
        self.told: list[TrafficReport | UsageReport | Take] = []
        """What control was told, in order."""
        self.deaf = False
        """It does not take usage."""
        self.news: asyncio.Queue[RouteNews] = asyncio.Queue()
        self.guest: Guest = self.ok
        self.refusal: dict[str, Any] | None = None
        self.asleep = False
        self.woken = asyncio.Event()
        """Until then it sleeps on, though it is asked to wake."""
        self.woken.set()
        self.control: web.AppRunner | None = None
        self.asked: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.keys_asked = 0
        self.port = 0
        self.gateway = Gateway(self.settings, Log("gateway", "error"))

    # The sandbox

    async def ok(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.heads.append(await read_head(reader))
            writer.write(OK)

    def answering(self, answer: bytes) -> None:
        """It reads one head, says this, and hangs up."""

        async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append(await read_head(reader))
            writer.write(answer)

        self.guest = guest

    async def _agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            self.asked.append(asked)
            if self.refusal is not None:
                writer.write(json.dumps(self.refusal).encode() + b"\n")
            elif self.asleep and not asked["wake"]:
                writer.write(b'{"asleep": true}\n')
            else:
                if self.asleep:
                    await self.woken.wait()
                writer.write(b"{}\n")
                await self.guest(reader, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    # Control

    async def _tell_routes(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        news = RouteNews(every=self.routes, services=self.services)
        while True:
            await answer.write(news.model_dump_json(exclude_none=True).encode() + b"\n")
            news = await self.news.get()

    async def _tell_key(self, request: web.Request) -> web.Response:
        self.keys_asked += 1
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": {"code": "unauthenticated", "message": "no"}}, status=401)
        return web.json_response({"project": "default"})

    async def _tell_access(self, request: web.Request) -> web.Response:
        self.keys_asked += 1
        access = self.access.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if access is None:
            return web.json_response({"error": {"code": "unauthenticated", "message": "no"}}, status=401)
        return web.json_response(text=access.model_dump_json())

    async def _take(self, request: web.Request) -> web.Response:
        take = Take.model_validate_json(await request.read())
        self.told.append(take)
        return web.json_response(text=self.taken(take).model_dump_json())

    async def _hear(self, request: web.Request) -> web.Response:
        kind = TrafficReport if request.path == TRAFFIC else UsageReport
        if self.deaf and kind is UsageReport:
            return web.Response(status=503)
        self.told.append(kind.model_validate_json(await request.read()))
        return web.Response(status=204)

    async def start_control(self) -> None:
        app = web.Application()
        app.router.add_get("/internal/routes", self._tell_routes)
        app.router.add_get("/internal/key", self._tell_key)
        app.router.add_get(ACCESS, self._tell_access)
        app.router.add_post(TAKE, self._take)
        app.router.add_post(TRAFFIC, self._hear)
        app.router.add_post(USAGE, self._hear)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(self.settings.control_socket)).start()
        self.control = runner

    async def stop_control(self) -> None:
        if self.control is not None:
            await self.control.cleanup()

    # The caller

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, sent: bytes) -> bytes:
        """Everything that comes back until the gateway hangs up."""
        reader, writer = await self.open()
        writer.write(sent)
        async with asyncio.timeout(30):
            came = await reader.read(-1)
        writer.close()
        return came

    async def get(
        self, path: str = "/", host: str = "open--80.boxes.test", *headers: str, method: str = "GET"
    ) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
        return await self.raw("\r\n".join([*lines, "", ""]).encode())

    def token(self, port: int = 80, expires: int = 4_000_000_000, box: str = "sb-0123456789ab") -> str:
        return sign(SECRET, box, port, expires)


@pytest.fixture
async def make_world() -> AsyncIterator[Callable[..., Awaitable[World]]]:
    ends: list[Callable[[], Awaitable[None]]] = []

    async def make(*services: ServiceRoute, **settings: Any) -> World:
        folder = tempfile.TemporaryDirectory(prefix="skerry-g-")  # not tmp_path: sockets' paths are short
        world = World(Path(folder.name), **settings)
        world.services = list(services)
        await world.start_control()
        agent = await asyncio.start_unix_server(world._agent, str(world.settings.streams_socket))
        listening = bind(world.settings.url_listen)[0]
        world.port = listening.getsockname()[1]
        ending = Ending()
        serving = asyncio.create_task(world.gateway.serve(listening, None, ending))
        async with asyncio.timeout(30):
            while not world.gateway.routes.known:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        async def end() -> None:
            for caller in list(world.gateway._callers):
                caller.abort()
            ending.stop()
            await serving
            agent.close()
            await world.stop_control()
            folder.cleanup()

        ends.append(end)
        return world

    yield make
    for end in ends:
        await end()


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
