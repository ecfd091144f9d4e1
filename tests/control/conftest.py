"""Control as it is served, on a unix socket and on loopback, with an agent that has no machine behind it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from skerry.control.app import Control
from skerry.control.program import _Server, listen_tcp, listen_unix
from skerry.settings import Settings
from skerry.telemetry import Log
from tests.reconcile.fake_agent import FakeAgent


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str
    json: Any

    @property
    def message(self) -> str:
        return self.json["error"]["message"]


class Api:
    """A client of nothing but HTTP, so that the tests see what is on the wire."""

    def __init__(
        self, control: Control, agent: FakeAgent, session: aiohttp.ClientSession, base: str, settings: Settings
    ) -> None:
        self.control = control
        self.agent = agent
        self.session = session
        self.base = base
        self.settings = settings
        self.tcp_base = ""
        self.key = ""

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        if body is not None:
            options["json"] = body
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        async with self.session.request(method, self.base + path, headers=headers, **options) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            parsed = await answer.json() if is_json else None
            return Answer(answer.status, dict(answer.headers), text, parsed)

    async def image(self, name: str = "debian:12") -> Any:
        body = {"name": name, "source": f"docker://registry/{name}"}
        answer = await self.call("POST", "/v1/images?wait_s=30", body)
        assert answer.status == 201, answer.text
        return answer.json

    async def sandbox(self, **spec: Any) -> Any:
        answer = await self.call("POST", "/v1/sandboxes?wait_s=30", {"image": "debian:12", **spec})
        assert answer.status == 201, answer.text
        assert answer.json["state"] == "running", answer.text
        return answer.json


@asynccontextmanager
async def serving(folder: Path, agent: FakeAgent, **settings: Any) -> AsyncIterator[Api]:
    given = Settings(data_dir=folder, run_dir=folder / "run", listen="127.0.0.1:0", **settings)
    log = Log("control", "error")
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(Control(given, log))
        sockets = [listen_tcp(given.listen, log), listen_unix(given.control_socket)]
        config = uvicorn.Config(control.web, lifespan="off", log_config=None, ws="websockets-sansio", http="httptools")
        server = _Server(config)
        serve = asyncio.create_task(server.serve(sockets=sockets))
        connector = aiohttp.UnixConnector(str(given.control_socket))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        api = Api(control, agent, session, "http://localhost", given)
        api.tcp_base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        api.key = given.admin_key_path.read_text().strip()
        yield api
        await session.close()
        server.should_exit = True
        server.force_exit = True
        await serve


@pytest.fixture
async def agent() -> AsyncIterator[FakeAgent]:
    with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder:  # not tmp_path: sockets' paths are short
        (Path(folder) / "run").mkdir()
        fake = FakeAgent(Path(folder) / "run" / "agent.sock")
        await fake.start()
        yield fake
        await fake.stop()


@pytest.fixture
async def api(agent: FakeAgent) -> AsyncIterator[Api]:
    async with serving(agent.path.parent.parent, agent) as api:
        yield api
