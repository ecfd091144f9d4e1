"""The agent as a program: alone in its mount namespace, parent of every orphan, serving one unix socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import uvicorn
import uvloop

from skerry.agent.app import AgentApp
from skerry.runtime.catalog import prepare_process
from skerry.settings import Settings
from skerry.telemetry import Log

WEBSOCKET_MESSAGE_BYTES_MAX = 16 * 1024 * 1024
BACKLOG = 1024


def main(settings: Settings) -> None:
    """Until SIGTERM. Raises SkerryError when this machine cannot run sandboxes."""
    prepare_process()  # before the first thread: it changes the mount namespace
    settings.run_path.mkdir(parents=True, exist_ok=True, mode=0o700)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    agent = AgentApp(settings, Log("agent", settings.log_level))
    await agent.open()
    agent.streams.open(listen(settings.streams_socket))
    config = uvicorn.Config(
        agent.web,
        loop="none",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_MESSAGE_BYTES_MAX,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    # When it has stopped serving, uvicorn sends itself the signal again, for whoever handled it before: without a
    # handler that would be our end, and nothing below would happen.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await server.serve(sockets=[listen(settings.agent_socket)])
    finally:
        await agent.close()


def listen(path: Path) -> socket.socket:
    """A unix socket that is root's alone from its first moment on."""
    path.unlink(missing_ok=True)  # the program's lock is ours: whoever left it is gone
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(mask)  # children inherit it: images are built by some
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound
