"""A guest's disk with a host's secrets beside it, and the files API served on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette

from skerry.agent.files.routes import file_routes
from skerry.agent.files.views import View
from skerry.agent.http_errors import error_handlers
from skerry.errors import NotFound
from skerry.runtime.contract import HostMount

SECRET = b"the host's secret"


class World:
    """`disk` is the guest's root; `secret` lies on the host where a '..' or an absolute link would find it."""

    def __init__(self, tmp_path: Path) -> None:
        self.top = tmp_path
        self.disk = tmp_path / "disk"
        self.share = tmp_path / "share"
        self.frozen = tmp_path / "frozen"
        self.secret = tmp_path / "secret"
        self.secret.write_bytes(SECRET)
        for folder in ("etc", "srv", "proc", "dev", "mnt/share", "mnt/frozen"):
            (self.disk / folder).mkdir(parents=True)
        for folder in (self.share, self.frozen):
            folder.mkdir()
        (self.disk / "etc/hostname").write_bytes(b"guest\n")
        self.mounts = [
            HostMount("/mnt/share", self.share),
            HostMount("/mnt/frozen", self.frozen, readonly=True),
        ]

    @property
    def view(self) -> View:
        return View(self.disk, self.mounts)

    async def sandbox_view(self, sandbox_id: str, *, wake: bool = True) -> View:
        if sandbox_id != "sb-1":
            raise NotFound(f"there is no sandbox {sandbox_id} here")
        return self.view

    async def checkpoint_view(self, checkpoint_id: str) -> View:
        if not checkpoint_id.startswith("cp-") or not (self.top / checkpoint_id).is_dir():
            raise NotFound(f"there is no checkpoint {checkpoint_id}")
        return View(self.top / checkpoint_id, readonly=True)

    def outside(self) -> dict[str, bytes]:
        """Everything beside the guest's trees, to see that nothing of it changed."""
        ours = {self.disk, self.share, self.frozen}
        return {p.name: p.read_bytes() if p.is_file() else b"" for p in self.top.iterdir() if p not in ours}


@contextlib.asynccontextmanager
async def serving(world: World, **limits: int) -> AsyncIterator[aiohttp.ClientSession]:
    web = Starlette(routes=[*file_routes(world, **limits)], exception_handlers=error_handlers())
    socket = str(world.top / "agent.sock")
    server = uvicorn.Server(uvicorn.Config(web, uds=socket, log_config=None, lifespan="off", access_log=False))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        async with aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(socket)) as client:
            yield client
    finally:
        server.should_exit = True
        await task
        (world.top / "agent.sock").unlink(missing_ok=True)
