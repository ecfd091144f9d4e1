"""Routes of images: pull, build or upload one, list, get, delete, prune. Export goes by the passage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from skerry.control.api.answers import (
    CREATED,
    DONE,
    GOING_ON,
    LIMIT,
    Items,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    many,
    one,
    page,
    waiting_responses,
)
from skerry.control.intents import images
from skerry.control.reconcile.images.create import CreateImages
from skerry.control.waiting import Waiter
from skerry.model.image import Image, ImageRequest, ImageState
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction

UNDER_WAY = (ImageState.CREATING, ImageState.DELETING)
UPLOADS_MAX = 4


class ImageRoutes:
    def __init__(self, store: Store, waiter: Waiter, maker: CreateImages) -> None:
        self._store = store
        self._waiter = waiter
        self._maker = maker
        self._uploads = asyncio.Semaphore(UPLOADS_MAX)

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/images", tags=["images"])
        made = waiting_responses(CREATED, Image)
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, responses=made)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Image])
        router.add_api_route(
            "/upload",
            self.upload,
            methods=["POST"],
            status_code=CREATED,
            responses=made,
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "description": "A docker-archive or oci-archive tar, plain or gzip",
                    "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
                }
            },
        )
        router.add_api_route("/prune", self.prune, methods=["POST"], response_model=Items[Image])
        # An image's name may hold slashes.
        router.add_api_route("/{ref:path}", self.get, methods=["GET"], response_model=Image)
        router.add_api_route("/{ref:path}", self.delete, methods=["DELETE"], responses=waiting_responses(DONE, Image))
        return router

    async def create(self, request: ImageRequest, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            made = await images.request_image(tx, request)
        return await self._settled(made, wait_s, CREATED)

    async def upload(
        self, request: Request, name: Annotated[str, Query(max_length=256)], wait_s: WaitS = 0.0
    ) -> Response:
        """The image is ready when the body has been read and unpacked; there is nothing left to wait for."""
        async with self._store.write() as tx:
            made = await images.request_upload(tx, name)
        async with self._uploads:
            await self._maker.receive(made, _chunks(request))
        return await self._settled(made, wait_s, CREATED)

    async def list(
        self,
        name: Annotated[str | None, Query(max_length=256, description="Beginning of the name")] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            found = await tx.images.list(PROJECT, name=name, limit=limit, page_token=page_token)
            return page(Page(await _with_users(tx, found.items), found.next_page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            return one((await _with_users(tx, [await tx.images.find(ref, PROJECT)]))[0])

    async def delete(self, ref: str, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            changed = await images.request_deletion(tx, await tx.images.find(ref, PROJECT))
        return await self._settled(changed, wait_s, DONE)

    async def prune(self) -> Response:
        async with self._store.write() as tx:
            return many(await images.prune(tx))

    async def _settled(self, image: Image, wait_s: float, done: int) -> Response:
        async def read() -> Image:
            async with self._store.read() as tx:
                return await tx.images.get(image.id) or image

        image = await self._waiter.until([image.id], read, lambda found: found.state not in UNDER_WAY, wait_s)
        return one(image, GOING_ON if image.state in UNDER_WAY else done)


async def _with_users(tx: Transaction, found: list[Image]) -> list[Image]:
    users = await tx.sandboxes.users_by_digest()
    return [image.model_copy(update={"users": users.get(image.digest or "", 0)}) for image in found]


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
