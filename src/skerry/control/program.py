"""Control as a program: bind its sockets, reconcile, serve until SIGTERM. Sandboxes go on without it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from skerry.control.app import Control
from skerry.control.passage.socket import MESSAGE_BYTES_MAX
from skerry.errors import Failed, Invalid
from skerry.settings import Settings
from skerry.telemetry import Log

BACKLOG = 1024
STOP_S_MAX = 3
"""Followers of logs and events never end by themselves; they are cut off after this."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Left to `_serve`: uvicorn would raise the signal again when it has stopped, before control has closed."""
        yield


def main(settings: Settings) -> None:
    """Raises Invalid or Failed, with what to do, when it cannot listen."""
    log = Log("control", settings.log_level)
    sockets = [listen_tcp(settings.listen, log), listen_unix(settings.control_socket)]
    try:
        uvloop.run(_serve(settings, log, sockets))
    finally:
        for bound in sockets:
            bound.close()
        settings.control_socket.unlink(missing_ok=True)


async def _serve(settings: Settings, log: Log, sockets: list[socket.socket]) -> None:
    async with Control(settings, log) as control:
        server = _Server(
            uvicorn.Config(
                control.web,
                loop="none",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=MESSAGE_BYTES_MAX,
                ws_per_message_deflate=False,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=STOP_S_MAX,
            )
        )

        def stop() -> None:
            server.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        log.info("serving", listen=settings.listen, socket=settings.control_socket)
        await server.serve(sockets=sockets)


def listen_tcp(listen: str, log: Log) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise Invalid(f"listen: {listen!r} is not allowed; give HOST:PORT, such as 127.0.0.1:7070", field="listen")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise Failed(
            f"cannot listen on {listen}: {error.strerror}; stop what uses it, or serve with another --listen",
            because=repr(error),
        ) from error
    if not ipaddress.ip_address(address[0]).is_loopback:
        log.warning("the API is open to other machines, unencrypted; put TLS before it", listen=listen)
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound


def listen_unix(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)  # the program's lock is ours: whoever left it is gone
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(mask)
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound
