"""What a gateway is told: every sandbox at first, then each that changes, as long as it listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from skerry.model.sandbox import S, Sandbox
from skerry.model.url import Route, RouteNews
from skerry.store.changes import Record
from skerry.store.store import Store

BEAT_S = 5.0
"""A line at least so often: a gateway that hears nothing for three of them begins anew."""
LOOK_EVERY_S = 1.0
"""With several control programs the others' changes are not told here: everything is read again so often."""
NEWS_MAX = 1000
"""Told at one time to one gateway; one that is further behind is told everything again."""


class _Ear:
    """What one gateway has not been told yet."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sandbox] = asyncio.Queue(NEWS_MAX)
        self.is_behind = False
        """Something was left out."""

    def hear(self, sandbox: Sandbox) -> None:
        if self.queue.full():
            self.is_behind = True
        else:
            self.queue.put_nowait(sandbox)

    def forget(self) -> None:
        self.is_behind = False
        while not self.queue.empty():
            self.queue.get_nowait()


class RouteFeed:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._listening: set[_Ear] = set()

    def about(self, record: Record) -> None:
        """Told of every commit."""
        if isinstance(record, Sandbox):
            for ear in self._listening:
                ear.hear(record)

    async def news(self) -> AsyncIterator[RouteNews]:
        """For ever."""
        ear = _Ear()
        beat_s = LOOK_EVERY_S if self._store.has_other_writers else BEAT_S
        self._listening.add(ear)  # before reading, so that no change falls in between
        try:
            told = await self._every()
            yield RouteNews(every=list(told.values()))
            while True:
                try:
                    async with asyncio.timeout(beat_s):
                        sandbox = await ear.queue.get()
                except TimeoutError:
                    yield await self._look_again(told)
                    continue
                if ear.is_behind:
                    ear.forget()
                    told = await self._every()
                    yield RouteNews(every=list(told.values()))
                elif (news := _news_of(sandbox, told)) is not None:
                    yield news
        finally:
            self._listening.discard(ear)

    async def _look_again(self, told: dict[str, Route]) -> RouteNews:
        if not self._store.has_other_writers:
            return RouteNews()
        found = await self._every()
        if found == told:
            return RouteNews()
        told.clear()
        told.update(found)
        return RouteNews(every=list(found.values()))

    async def _every(self) -> dict[str, Route]:
        async with self._store.read() as tx:
            return {sandbox.id: route_of(sandbox) for sandbox in await tx.sandboxes.reachable()}


def route_of(sandbox: Sandbox) -> Route:
    return Route(
        id=sandbox.id,
        name=sandbox.name,
        project=sandbox.project,
        state=sandbox.state,
        public=sandbox.spec.public,
    )


def _news_of(sandbox: Sandbox, told: dict[str, Route]) -> RouteNews | None:
    """None: nothing of it matters to a gateway."""
    if sandbox.state in (S.DELETING, S.DELETED):
        return RouteNews(gone=sandbox.id) if told.pop(sandbox.id, None) is not None else None
    route = route_of(sandbox)
    if told.get(sandbox.id) == route:
        return None
    told[sandbox.id] = route
    return RouteNews(route=route)
