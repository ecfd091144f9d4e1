"""Build the gateway: routes, keys, connections, each given what it needs; the only place that knows every part."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from skerry.clock import Clock, SystemClock
from skerry.engines.catalog import engine
from skerry.gateway.caller import TICK_S, Caller, Known
from skerry.gateway.control import ControlClient
from skerry.gateway.door import Door as BoxDoor
from skerry.gateway.door import Keys, Secret
from skerry.gateway.ending import Ending
from skerry.gateway.exchange import Door, Exchange, V
from skerry.gateway.exchange import Guests as Reach
from skerry.gateway.guests import Guests
from skerry.gateway.limits import CONNECTIONS_MAX, Held, WakeLimits
from skerry.gateway.request import Request
from skerry.gateway.routes import Routes, follow
from skerry.gateway.routing.catalog import policy
from skerry.gateway.services.access import Entrants
from skerry.gateway.services.allowance import Allowances
from skerry.gateway.services.call import Call
from skerry.gateway.services.journal import Journal
from skerry.gateway.services.lookout import Lookout
from skerry.gateway.services.meter import Meter
from skerry.gateway.services.overheard import Overheard
from skerry.gateway.services.place import Services
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.reporter import Reporter
from skerry.gateway.services.tracer import Tracer
from skerry.gateway.services.web import LabelDoor, WebDoor, WebGuests
from skerry.gateway.siblings import Siblings
from skerry.model.url import RouteNews, read_host
from skerry.settings import Settings
from skerry.telemetry import Log

DRAIN_S_MAX = 10.0
"""What still goes on when we are told to stop may end by itself for so long; sandboxes are not touched."""
DRAIN_LOOK_S = 0.1
KNOWS_S_MAX = 2.0
"""Nobody is let in before control has said what there is, or cannot; one that hangs is not waited for any longer."""
FADE_S_MAX = 600.0
"""What goes on when another gateway has taken our place has all this time: nobody waits for us to be gone."""
STREAMS_S_MAX = 60.0
"""An answer of a model may: it cannot be asked for again from where it broke off, as a page or a WebSocket can."""


class Gateway:
    def __init__(self, settings: Settings, log: Log, clock: Clock | None = None, *, slot: int = 0, of: int = 1) -> None:
        """One of `of` on this machine's address."""
        clock = clock or SystemClock()
        self._settings = settings
        self._log = log
        self._callers: set[Caller] = set()
        self._empty = asyncio.Event()
        siblings = self.siblings = Siblings(slot, of, settings.gateway_socket_of)
        self._connections_max = siblings.share(CONNECTIONS_MAX)
        self.routes = Routes(settings.url_domain)
        self.control = ControlClient(settings.control_socket)
        self._door = BoxDoor(self.routes, Keys(self.control, clock), Secret(settings.url_secret_path).read, clock)
        self._guests = Guests(settings.streams_socket, WakeLimits(clock.monotonic_s, of), Held(of))
        meter = Meter()
        self.registry = Registry(
            settings.run_path / "services.json", str(settings.streams_socket), policy, siblings.share
        )
        self._reporter = Reporter(self.control, self.registry, meter, clock.monotonic_s, clock.now)
        self._lookout = Lookout(self.registry, lambda name: engine(name).metrics, clock.monotonic_s)
        self._overheard = Overheard(self.registry, lambda name: engine(name).events_port)
        self.registry.on_wanted = self._reporter.hurry
        entrants = Entrants(self.control, clock.monotonic_s, lambda: clock.now().timestamp())
        self._tracer: Tracer | None = None
        if settings.otlp_endpoint is not None:
            self._tracer = Tracer(
                settings.otlp_endpoint,
                settings.otlp_headers,
                settings.otlp_share,
                self._reporter.gateway,
                log,
                clock.monotonic_s,
            )
        allowances = Allowances(self._reporter.gateway, self.control, clock.monotonic_s)
        self._web_door = WebDoor(self.registry, entrants, allowances)
        self._web_guests = WebGuests(str(settings.streams_socket))
        self._reporter.on_heard = allowances.heard
        self.services = Services(
            self.registry,
            entrants,
            allowances,
            meter,
            Journal(sys.stderr, on=settings.log_level in ("debug", "info")),
            clock.monotonic_s,
            lambda: len(self._callers),
            settings.url_domain,
            siblings,
            self._tracer,
        )
        self.known: Callable[[bytes], Known | None] = self.services.heads.get
        self.serves = asyncio.Event()
        self.is_draining = False
        self.tick = 0

    async def serve(self, listening: socket.socket, tls: ssl.SSLContext | None, ending: Ending) -> None:
        """Until told to end, and what goes on then has ended or taken too long."""
        loop = asyncio.get_running_loop()
        scheme = self._settings.url_scheme
        self.registry.load()
        async with self.control, self._lookout:
            asked = asyncio.Event()
            tasks = [
                loop.create_task(follow(self._learn, self.control, self._log, asked)),
                loop.create_task(self._sweep()),
                loop.create_task(self._reporter.run()),
                loop.create_task(self._lookout.run()),
                loop.create_task(self._overheard.run()),
            ]
            if self._tracer is not None:
                tasks.append(loop.create_task(self._tracer.run()))
            with suppress(TimeoutError):  # whoever connects waits in the line for those milliseconds
                async with asyncio.timeout(KNOWS_S_MAX):
                    await asked.wait()
            server = await loop.create_server(lambda: Caller(self, scheme), sock=listening, ssl=tls)
            self.serves.set()
            try:
                await ending.told.wait()
                server.close()
                self.is_draining = True
                if not ending.hurried.is_set():
                    await self._fade(ending)
                await self._drain()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.services.journal.flush()
                await self._reporter.end(ending.hurried)

    async def _fade(self, ending: Ending) -> None:
        """Connections are kept for a while, so that callers learn by their next answer that they are over: one that is
        closed as a request comes on it would look refused."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while self._callers and not ending.hurried.is_set():
            if loop.time() > began_s + FADE_S_MAX:
                for caller in list(self._callers):
                    caller.abort()
            elif loop.time() > began_s + DRAIN_S_MAX:
                for caller in list(self._callers):
                    caller.drain()
            await asyncio.sleep(DRAIN_LOOK_S)

    async def _drain(self) -> None:
        if not self._callers:
            return
        for caller in list(self._callers):
            caller.drain()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                await self._empty.wait()
        while self.services.calls and loop.time() < began_s + STREAMS_S_MAX:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)
        for caller in list(self._callers):
            caller.abort()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._guests.sweep()
            self._web_guests.sweep()
            self.services.look()
            self.registry.save()
            self.tick += 1
            for caller in list(self._callers):
                caller.look(self.tick)

    # What connections ask

    def came(self, caller: Caller) -> bool:
        if len(self._callers) >= self._connections_max:
            return False
        self._callers.add(caller)
        self._empty.clear()
        return True

    def left(self, caller: Caller) -> None:
        self._callers.discard(caller)
        if not self._callers:
            self._empty.set()

    def exchange_again(self, caller: Caller, head: Any) -> Call:
        return Call(self.services, caller, head)

    def exchange(self, caller: Caller, request: Request, head: bytes | None) -> Exchange[Any] | Call:
        if read_host(request.host, self._settings.url_domain) is None:
            label = self._label(request.host)
            if label is None or not self.registry.has(label) or self.services.is_asked(request):
                return self.services.call(caller, request, label, head)
            return self._exchange(caller, request, LabelDoor(self._web_door, label), self._web_guests)
        return self._exchange(caller, request, self._door, self._guests)

    def _exchange(self, caller: Caller, request: Request, door: Door[V], guests: Reach[V]) -> Exchange[V]:
        return Exchange(caller, request, door, guests, self._log, body_bytes_max=self._settings.url_body_bytes_max)

    def _label(self, host: str) -> str | None:
        """NAME of NAME.DOMAIN: a service, if there is one of that name."""
        name, _, rest = host.lower().partition(":")[0].removesuffix(".").partition(".")
        return name if rest == self._settings.url_domain else None

    def _learn(self, news: RouteNews) -> None:
        self.routes.learn(news)
        self.registry.learn(news)

    def failed(self, error: BaseException) -> None:
        self._log.error("defect", because=repr(error))


def is_open_to_others(listening: socket.socket) -> bool:
    return not ipaddress.ip_address(listening.getsockname()[0]).is_loopback
