"""Routes of URLs: where a port of a sandbox is reached from outside, and links that open a private one for a while."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.clock import Clock
from skerry.control.api.answers import CREATED, one
from skerry.control.links import Links
from skerry.model.url import LinkRequest, Url
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class UrlRoutes:
    def __init__(self, store: Store, links: Links, clock: Clock) -> None:
        self._store = store
        self._links = links
        self._clock = clock

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes/{ref}/url", tags=["sandboxes"])
        router.add_api_route("", self.get, methods=["GET"], response_model=Url)
        router.add_api_route("", self.sign, methods=["POST"], status_code=CREATED, response_model=Url)
        return router

    async def get(self, ref: str, port: Annotated[int | None, Query(ge=1, le=65_535)] = None) -> Response:
        async with self._store.read() as tx:
            return one(self._links.url(await tx.sandboxes.find(ref, PROJECT), port))

    async def sign(self, ref: str, request: LinkRequest) -> Response:
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
        return one(self._links.link(sandbox, request, self._clock.now()), CREATED)
