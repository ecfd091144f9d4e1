"""The gateway as a program: listen, serve until SIGTERM, let what goes on end. Sandboxes go on without it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
from pathlib import Path

import uvloop

from skerry.errors import Invalid
from skerry.gateway.app import Gateway, is_open_to_others
from skerry.gateway.ending import Ending
from skerry.gateway.services.place import Services
from skerry.gateway.siblings import OWN
from skerry.settings import Settings
from skerry.telemetry import Log

GC_THRESHOLDS = (20_000, 20, 50)
"""A request leaves nothing behind that only the collector finds, so it need not look after every thousand objects."""
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
)


def main(settings: Settings, listening: socket.socket, slot: int = 0, of: int = 1) -> None:
    """As one of `of` on this machine's address. Raises Invalid, with what to do, when it cannot serve there."""
    log = Log("gateway" if of == 1 else f"gateway-{slot}", settings.log_level)
    settings.run_path.mkdir(parents=True, exist_ok=True, mode=0o700)
    tls = _tls(settings)
    if is_open_to_others(listening) and tls is None:
        log.warning("sandboxes' URLs are open to other machines, unencrypted", listen=settings.url_listen)
    # What is there now stays: looking through it for what nobody holds would stop every stream for some milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(_serve(settings, log, listening, tls, slot, of))
    finally:
        listening.close()


async def _serve(
    settings: Settings, log: Log, listening: socket.socket, tls: ssl.SSLContext | None, slot: int, of: int
) -> None:
    ending = Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.stop)
    loop.add_signal_handler(signal.SIGUSR1, ending.give_way)
    gateway = Gateway(settings, log, slot=slot, of=of)
    serving = loop.create_task(gateway.serve(listening, tls, ending))
    begun = loop.create_task(gateway.serves.wait())
    await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    # Only now: the supervisor takes the answer for a sign that whoever we succeed may go.
    inside = await _answer_inside(settings.gateway_socket_of(slot), gateway.services)
    log.info("serving", listen=settings.url_listen, domain=settings.url_domain, scheme=settings.url_scheme)
    try:
        await serving
    finally:
        inside.close()


async def _answer_inside(path: Path, services: Services) -> asyncio.AbstractServer:
    """For the supervisor, which asks whether we serve, and for the machine's Prometheus at /metrics."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(1):
                target = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode("latin-1")
            body = (await _told(target, services)).encode()
            writer.write(_ANSWER % (len(body), body))
            await writer.drain()
        except (TimeoutError, OSError, EOFError, IndexError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    # Whoever answered here before is gone, or gives way to us; it stays when we end, for the next one to take.
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(answer, str(path))
    finally:
        os.umask(mask)


async def _told(target: str, services: Services) -> str:
    path, _, query = target.partition("?")
    if path == OWN:
        named = query.removeprefix("services=")
        return services.own_metrics(named.split(",") if query else None)
    return await services.metrics() if path == "/metrics" else ""


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
