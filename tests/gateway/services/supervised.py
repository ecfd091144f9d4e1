"""Real gateways under a real supervisor, before control and replicas that are the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.serve.ready import serving_pid
from tests.gateway.conftest import World

READY_S_MAX = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Supervised:
    def __init__(self, world: World, gateways: int) -> None:
        folder, world.port = world.settings.data_dir, free_port()
        listen = f"127.0.0.1:{world.port}"
        settings = world.settings.model_copy(update={"url_listen": listen, "gateway_workers": gateways})
        told = {
            "lock_path": str(folder / "serve.lock"),
            "run_path": str(folder),
            "programs": ["gateway"],
            "listen": listen,
            "gateways": gateways,
            "log_level": "info",
            "banner": None,
        }
        self.log = folder / "log"
        self._sockets = [settings.gateway_socket_of(slot) for slot in range(gateways)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "skerry.serve.program"],
                env=os.environ
                | {
                    "SKERRY_SETTINGS_JSON": settings.model_dump_json(),
                    "SKERRY_SUPERVISOR_JSON": json.dumps(told),
                },
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    async def pids(self) -> list[int | None]:
        """Who serves now; asked beside the event loop, in which the gateways' own questions are answered."""
        return [await asyncio.to_thread(serving_pid, str(path)) for path in self._sockets]

    async def serve(self) -> list[int | None]:
        async with asyncio.timeout(READY_S_MAX):
            while None in (found := await self.pids()):
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
        return found

    async def reload(self) -> None:
        """Until each gateway is another process."""
        before = await self.pids()
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(READY_S_MAX):
            while set(found := await self.pids()) & set(before) or None in found:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def metrics(self) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._sockets[0]))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: local\r\n\r\n")
        async with asyncio.timeout(READY_S_MAX):
            answer = await reader.read(-1)
        writer.close()
        return answer.partition(b"\r\n\r\n")[2].decode()


@asynccontextmanager
async def supervised(world: World, gateways: int = 1) -> AsyncIterator[Supervised]:
    """In place of the gateway in this process."""
    served = Supervised(world, gateways)
    try:
        await served.serve()
        yield served
    finally:
        while served.process.poll() is None:  # again and again: nobody waits for streams here
            served.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)


async def gone(pid: int) -> None:
    async with asyncio.timeout(READY_S_MAX):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
