"""Build the gateway: routes, keys, connections, each given what it needs; the only place that knows every part."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from contextlib import suppress

from skerry.clock import Clock, SystemClock
from skerry.gateway.caller import Caller
from skerry.gateway.control import ControlClient
from skerry.gateway.door import Door, Keys, Secret
from skerry.gateway.exchange import Exchange
from skerry.gateway.guests import Guests
from skerry.gateway.limits import CONNECTIONS_MAX, WakeLimits
from skerry.gateway.request import Request
from skerry.gateway.routes import Routes, follow
from skerry.settings import Settings
from skerry.telemetry import Log

SWEEP_EVERY_S = 0.5
DRAIN_S_MAX = 10.0
"""What still goes on when we are told to stop may end by itself for so long; sandboxes are not touched."""


class Gateway:
    def __init__(self, settings: Settings, log: Log, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._settings = settings
        self._log = log
        self._callers: set[Caller] = set()
        self._empty = asyncio.Event()
        self._limits = WakeLimits(clock.monotonic_s)
        self.routes = Routes(settings.url_domain)
        self.control = ControlClient(settings.control_socket)
        self._door = Door(self.routes, Keys(self.control, clock), Secret(settings.url_secret_path).read, clock)
        self._guests = Guests(settings.streams_socket, self._limits)
        self.is_draining = False

    async def serve(self, listening: socket.socket, tls: ssl.SSLContext | None, stop: asyncio.Event) -> None:
        """Until told to stop, and what goes on then has ended or taken too long."""
        loop = asyncio.get_running_loop()
        scheme = self._settings.url_scheme
        async with self.control:
            following = loop.create_task(follow(self.routes, self.control, self._log))
            sweeping = loop.create_task(self._sweep())
            server = await loop.create_server(lambda: Caller(self, scheme), sock=listening, ssl=tls)
            try:
                await stop.wait()
                server.close()
                await self._drain()
            finally:
                for task in (following, sweeping):
                    task.cancel()
                await asyncio.gather(following, sweeping, return_exceptions=True)

    async def _drain(self) -> None:
        self.is_draining = True
        if not self._callers:
            return
        for caller in list(self._callers):
            caller.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                await self._empty.wait()
        for caller in list(self._callers):
            caller.abort()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._guests.sweep()

    # What connections ask

    def came(self, caller: Caller) -> bool:
        if len(self._callers) >= CONNECTIONS_MAX:
            return False
        self._callers.add(caller)
        self._empty.clear()
        return True

    def left(self, caller: Caller) -> None:
        self._callers.discard(caller)
        if not self._callers:
            self._empty.set()

    def exchange(self, caller: Caller, request: Request) -> Exchange:
        return Exchange(
            caller, request, self._door, self._guests, self._log, body_bytes_max=self._settings.url_body_bytes_max
        )

    def failed(self, error: BaseException) -> None:
        self._log.error("defect", because=repr(error))


def is_open_to_others(listening: socket.socket) -> bool:
    return not ipaddress.ip_address(listening.getsockname()[0]).is_loopback
