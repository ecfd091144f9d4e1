"""Routes of keys: make one (its secret is shown once), list, delete."""

from __future__ import annotations

import os

from fastapi import APIRouter, Request
from starlette.responses import Response

from skerry.control.api.answers import CREATED, LIMIT, Limit, ListOf, PageToken, one, page
from skerry.control.keys import KeyRing
from skerry.errors import Conflict, LimitReached, NotFound
from skerry.model.key import Key, KeyRequest, NewKey
from skerry.store.keys import SECRET_BYTES, make_secret
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

KEYS_MAX = 1000


class KeyRoutes:
    def __init__(self, store: Store, ring: KeyRing) -> None:
        self._store = store
        self._ring = ring

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/keys", tags=["keys"])
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, response_model=NewKey)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Key])
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], response_model=Key)
        return router

    async def create(self, request: KeyRequest) -> Response:
        secret = make_secret(os.urandom(SECRET_BYTES))
        async with self._store.write() as tx:
            if await tx.keys.count() >= KEYS_MAX:
                raise LimitReached(f"there may be {KEYS_MAX} keys; delete some")
            key = await tx.keys.create(request.name, PROJECT, secret)
        return one(NewKey(**key.model_dump(), secret=secret), CREATED)

    async def list(self, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        async with self._store.read() as tx:
            return page(await tx.keys.list(PROJECT, limit=limit, page_token=page_token))

    async def delete(self, ref: str, request: Request) -> Response:
        """Never the caller's own: whoever still has a key that works can then always come in again."""
        async with self._store.write() as tx:
            key = await tx.keys.find(ref, PROJECT)
            if await tx.keys.count() == 1:
                raise Conflict("this is the last key: nobody could come in again; make another one first")
            if key.id == request.scope["skerry.key"].id:
                raise Conflict("this is the key you are calling with; call with another one to delete it")
            if not await tx.keys.delete(key):
                raise NotFound(f"there is no key {ref!r}")
        self._ring.forget()
        return one(key)
