"""Which sandbox a host name means: as control last told it, and kept while control is down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.errors import NotFound, Unavailable
from skerry.gateway.control import ControlClient
from skerry.model.url import Route, RouteNews, read_host
from skerry.telemetry import Log

AGAIN_S = 0.05
AGAIN_S_MAX = 0.4


class Routes:
    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._by_id: dict[str, Route] = {}
        self._by_name: dict[str, Route] = {}
        self.known = False
        """Whether control has told them since we started."""

    def find(self, host: str) -> tuple[Route, int]:
        """The sandbox and port of a host name. Raises NotFound; Unavailable while nothing is known."""
        read = read_host(host, self._domain)
        if read is None:
            raise NotFound(f"there is nothing at {host}; a sandbox is at NAME--PORT.{self._domain}")
        if not self.known:
            raise Unavailable("the gateway has just started and knows no sandbox yet; try again", retry_after_s=1)
        name, port = read
        route = self._by_name.get(name) or self._by_id.get(name)
        if route is None:
            raise NotFound(f"there is no sandbox {name}")
        return route, port

    def port_of(self, host: str, route: Route) -> int | None:
        """The port, when the host is of this very sandbox."""
        read = read_host(host, self._domain)
        return read[1] if read is not None and read[0] in (route.name, route.id) else None

    def learn(self, news: RouteNews) -> None:
        if news.every is not None:
            self._by_id = {route.id: route for route in news.every}
            self._by_name = {route.name: route for route in news.every}
            self.known = True
        if news.gone is not None:
            self._forget(news.gone)
        if news.route is not None:
            self._forget(news.route.id)  # it may have been renamed
            self._by_id[news.route.id] = self._by_name[news.route.name] = news.route

    def _forget(self, sandbox_id: str) -> None:
        was = self._by_id.pop(sandbox_id, None)
        # Its name may be another's by now.
        if was is not None and self._by_name.get(was.name) is was:
            del self._by_name[was.name]


async def follow(learn: Callable[[RouteNews], None], control: ControlClient, log: Log, asked: asyncio.Event) -> None:
    """For ever. What was known is kept while control is away. `asked` is set when it has said something, or cannot."""
    pause_s = AGAIN_S
    told = False
    while True:
        try:
            async for news in control.news():
                learn(news)
                asked.set()
                pause_s, told = AGAIN_S, False
        except Unavailable as error:
            asked.set()
            if not told:
                log.info("control is away; what it said last goes on to hold", because=error.because)
                told = True
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, AGAIN_S_MAX)
