"""What a gateway is told: every sandbox and service at first, then each that changes, as long as it listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from skerry.control.service_routes import service_route
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import SERVICE_FINAL, Service
from skerry.model.traffic import ServiceRoute
from skerry.model.url import Route, RouteNews
from skerry.store.changes import Record
from skerry.store.store import Store
from skerry.store.transaction import Transaction

BEAT_S = 5.0
"""A line at least so often: a gateway that hears nothing for three of them begins anew."""
LOOK_EVERY_S = 1.0
"""With several control programs the others' changes are not told here: everything is read again so often."""
NEWS_MAX = 1000
"""Told at one time to one gateway; one that is further behind is told everything again."""


class _Ear:
    """What one gateway has not been told yet: sandboxes, and ids of services."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sandbox | str] = asyncio.Queue(NEWS_MAX)
        self.is_behind = False
        """Something was left out."""
        self._services: set[str] = set()

    def hear(self, sandbox: Sandbox) -> None:
        self._put(sandbox)

    def hear_of(self, service: str) -> None:
        """Once, however often it changes before it is told of."""
        if service not in self._services and self._put(service):
            self._services.add(service)

    async def next(self) -> Sandbox | str:
        found = await self.queue.get()
        if isinstance(found, str):
            self._services.discard(found)
        return found

    def forget(self) -> None:
        self.is_behind = False
        self._services.clear()
        while not self.queue.empty():
            self.queue.get_nowait()

    def _put(self, news: Sandbox | str) -> bool:
        if self.queue.full():
            self.is_behind = True
            return False
        self.queue.put_nowait(news)
        return True


@dataclass
class _Told:
    sandboxes: dict[str, Route] = field(default_factory=dict[str, Route])
    services: dict[str, ServiceRoute] = field(default_factory=dict[str, ServiceRoute])

    def news(self) -> RouteNews:
        return RouteNews(every=list(self.sandboxes.values()), services=list(self.services.values()))


class RouteFeed:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._listening: set[_Ear] = set()

    def about(self, record: Record) -> None:
        """Told of every commit."""
        if isinstance(record, Sandbox):
            for ear in self._listening:
                ear.hear(record)
                if record.replica is not None:
                    ear.hear_of(record.replica.service)
        elif isinstance(record, Service):
            for ear in self._listening:
                ear.hear_of(record.id)

    async def news(self) -> AsyncIterator[RouteNews]:
        """For ever."""
        ear = _Ear()
        beat_s = LOOK_EVERY_S if self._store.has_other_writers else BEAT_S
        self._listening.add(ear)  # before reading, so that no change falls in between
        try:
            told = await self._every()
            yield told.news()
            while True:
                try:
                    async with asyncio.timeout(beat_s):
                        changed = await ear.next()
                except TimeoutError:
                    found = await self._every() if self._store.has_other_writers else told
                    yield RouteNews() if found == told else found.news()
                    told = found
                    continue
                if ear.is_behind:
                    ear.forget()
                    told = await self._every()
                    yield told.news()
                    continue
                news = _news_of(changed, told) if isinstance(changed, Sandbox) else await self._of(changed, told)
                if news is not None:
                    yield news
        finally:
            self._listening.discard(ear)

    async def _every(self) -> _Told:
        async with self._store.read() as tx:
            sandboxes = {sandbox.id: route_of(sandbox) for sandbox in await tx.sandboxes.reachable()}
            services = [await _route(tx, service) for service in await tx.services.all()]
        return _Told(sandboxes, {route.id: route for route in services})

    async def _of(self, service_id: str, told: _Told) -> RouteNews | None:
        """Read anew, with its replicas as they are now. None: nothing of it matters to a gateway."""
        async with self._store.read() as tx:
            service = await tx.services.get(service_id)
            if service is None or service.state in SERVICE_FINAL:
                known = told.services.pop(service_id, None)
                return RouteNews(service_gone=service_id) if known is not None else None
            route = await _route(tx, service)
        if told.services.get(service_id) == route:
            return None
        told.services[service_id] = route
        return RouteNews(service=route)


async def _route(tx: Transaction, service: Service) -> ServiceRoute:
    boxes = [] if service.spec.addresses else await tx.sandboxes.of_service(service.id)
    return service_route(service, boxes, tx.now)


def route_of(sandbox: Sandbox) -> Route:
    return Route(
        id=sandbox.id,
        name=sandbox.name,
        project=sandbox.project,
        state=sandbox.state,
        public=sandbox.spec.public,
    )


def _news_of(sandbox: Sandbox, told: _Told) -> RouteNews | None:
    """None: nothing of it matters to a gateway."""
    if sandbox.state in (S.DELETING, S.DELETED):
        return RouteNews(gone=sandbox.id) if told.sandboxes.pop(sandbox.id, None) is not None else None
    route = route_of(sandbox)
    if told.sandboxes.get(sandbox.id) == route:
        return None
    told.sandboxes[sandbox.id] = route
    return RouteNews(route=route)
