"""Routes of events: a page of history, or history as it happens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from skerry.control.api.answers import LIMIT, Limit, ListOf, PageToken, lines, page
from skerry.control.waiting import Waiter
from skerry.model.event import Event
from skerry.store.changes import EVERY_EVENT
from skerry.store.paging import PAGE_MAX, Page, make_token, read_token
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

WATCH_S_MAX = 86_400.0
_ID = re.compile(r"[a-z]{2,4}-[0-9a-f]{12}")
After = Annotated[int | None, Query(ge=0, description="Only events with a greater sequence")]


class EventRoutes:
    def __init__(self, store: Store, waiter: Waiter) -> None:
        self._store = store
        self._waiter = waiter

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/events", tags=["events"])
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Event])
        return router

    async def list(
        self,
        request: Request,
        target: Annotated[str | None, Query(max_length=64)] = None,
        noun: Annotated[str | None, Query(max_length=16)] = None,
        after: After = None,
        watch: Annotated[bool, Query(description="One event a line, from now on (or from `after`)")] = False,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        begin = max(after or 0, read_token(page_token))
        target = await self._id_of(target)
        if watch:
            return lines(request, self._watch(target, noun, begin if after is not None else await self._newest()))
        found = await self._read(target, noun, begin, limit + 1)
        token = make_token(found[limit - 1].sequence) if len(found) > limit else None
        return page(Page(found[:limit], token))

    async def _watch(self, target: str | None, noun: str | None, after: int) -> AsyncIterator[Event]:
        while True:
            read = partial(self._read, target, noun, after, PAGE_MAX)
            found = await self._waiter.until([EVERY_EVENT], read, bool, WATCH_S_MAX)
            for event in found:
                after = event.sequence
                yield event

    async def _id_of(self, target: str | None) -> str | None:
        """A sandbox's name stands for its id; anything else is taken as an id, since the object may be long gone."""
        if target is None or _ID.fullmatch(target):
            return target
        async with self._store.read() as tx:
            return await tx.sandboxes.id_named(target, PROJECT) or target

    async def _newest(self) -> int:
        async with self._store.read() as tx:
            return await tx.events.newest()

    async def _read(self, target: str | None, noun: str | None, after: int, limit: int) -> list[Event]:
        async with self._store.read() as tx:
            return await tx.events.list(PROJECT, target=target, noun=noun, after=after, limit=limit)
