"""Routes of queues: make one, list, see what is in it at this moment, change its rules, delete."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from skerry.control.api.answers import CREATED, LIMIT, LabelsAsked, Limit, ListOf, PageToken, labels_asked, one, page
from skerry.control.intents import queues
from skerry.control.queue_use import with_use
from skerry.model.queue import Queue, QueueSpec, QueueUpdate, QueueWithUse
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import Transaction


class QueueRoutes:
    def __init__(self, store: Store) -> None:
        self._store = store

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/queues", tags=["queues"])
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, response_model=Queue)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[QueueWithUse])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=QueueWithUse)
        router.add_api_route("/{ref}", self.update, methods=["PATCH"], response_model=Queue)
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], response_model=Queue)
        return router

    async def create(self, spec: QueueSpec) -> Response:
        async with self._store.write() as tx:
            return one(await queues.create(tx, spec), CREATED)

    async def list(self, label: LabelsAsked = None, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        async with self._store.read() as tx:
            found = await tx.queues.list(labels=labels_asked(label), limit=limit, page_token=page_token)
            return page(Page(await _seen(tx, found.items), found.next_page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            [queue] = await _seen(tx, [await tx.queues.find(ref)])
        return one(queue)

    async def update(self, ref: str, wanted: QueueUpdate) -> Response:
        """In force at once, also for what waits already. Nothing that runs is stopped because of it."""
        async with self._store.write() as tx:
            return one(await queues.update(tx, await tx.queues.find(ref), wanted))

    async def delete(self, ref: str) -> Response:
        """Refused while there is work in it, and of the one that is always there."""
        async with self._store.write() as tx:
            queue = await tx.queues.find(ref)
            await queues.delete(tx, queue)
        return one(queue)


async def _seen(tx: Transaction, found: list[Queue]) -> list[QueueWithUse]:
    return with_use(found, await tx.nodes.all(), await tx.sandboxes.holdings())
