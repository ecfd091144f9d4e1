"""The gateway as a program: listen, serve until SIGTERM, let what goes on end. Sandboxes go on without it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvloop

from skerry.errors import Failed, Invalid
from skerry.gateway.app import Gateway, is_open_to_others
from skerry.settings import Settings
from skerry.telemetry import Log

BACKLOG = 2048
GC_THRESHOLDS = (20_000, 20, 50)
"""A request leaves nothing behind that only the collector finds, so it need not look after every thousand objects."""
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
)


def main(settings: Settings) -> None:
    """Raises Invalid or Failed, with what to do, when it cannot listen."""
    log = Log("gateway", settings.log_level)
    settings.run_path.mkdir(parents=True, exist_ok=True, mode=0o700)
    tls = _tls(settings)
    listening = _listen(settings.url_listen)
    if is_open_to_others(listening) and tls is None:
        log.warning("sandboxes' URLs are open to other machines, unencrypted", listen=settings.url_listen)
    # What is there now stays: looking through it for what nobody holds would stop every stream for some milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(_serve(settings, log, listening, tls))
    finally:
        listening.close()
        settings.gateway_socket.unlink(missing_ok=True)


async def _serve(settings: Settings, log: Log, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(settings, log)
    inside = await _answer_inside(settings.gateway_socket, gateway.services.metrics)
    log.info("serving", listen=settings.url_listen, domain=settings.url_domain, scheme=settings.url_scheme)
    try:
        await gateway.serve(listening, tls, stop)
    finally:
        inside.close()


async def _answer_inside(path: Path, metrics: Callable[[], str]) -> asyncio.AbstractServer:
    """For the supervisor, which asks whether we serve, and for the machine's Prometheus at /metrics."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(1):
                head = await reader.readuntil(b"\r\n\r\n")
            body = metrics().encode() if head.startswith(b"GET /metrics") else b""
            writer.write(_ANSWER % (len(body), body))
            await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    path.unlink(missing_ok=True)  # the program's lock is ours: whoever left it is gone
    mask = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(answer, str(path))
    finally:
        os.umask(mask)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.url_certificate is None or settings.url_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.url_certificate, settings.url_key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"url_certificate and url_key: {settings.url_certificate} with {settings.url_key} cannot be used; give PEM "
            "files that belong together",
            because=str(error),
        ) from None
    return context


def _listen(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        say = f"cannot listen on {listen}: {error.strerror}; stop what uses it, or serve with another --url-listen"
        raise Failed(say, because=repr(error)) from error
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound
