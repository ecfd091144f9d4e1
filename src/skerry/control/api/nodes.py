"""Routes of nodes: list, see what each has and holds, label and taint, and whether it takes work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.responses import Response

from skerry.control.api.answers import LIMIT, LabelsAsked, Limit, ListOf, PageToken, labels_asked, one, page
from skerry.control.intents import nodes
from skerry.control.queue_use import nodes_with_use
from skerry.model.node import Node, NodeUpdate, NodeWithUse
from skerry.store.nodes import Marked
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import Transaction


class NodeRoutes:
    def __init__(self, store: Store) -> None:
        self._store = store

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/nodes", tags=["nodes"])
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[NodeWithUse])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=NodeWithUse)
        router.add_api_route("/{ref}", self.update, methods=["PATCH"], response_model=Node)
        router.add_api_route("/{ref}/cordon", self.cordon, methods=["POST"], response_model=Node)
        router.add_api_route("/{ref}/uncordon", self.uncordon, methods=["POST"], response_model=Node)
        router.add_api_route("/{ref}/drain", self.drain, methods=["POST"], response_model=Node)
        return router

    async def list(self, label: LabelsAsked = None, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        """All in one page: there are as many as there are machines."""
        wanted = labels_asked(label).items()
        async with self._store.read() as tx:
            found = [node for node in await tx.nodes.all() if wanted <= node.labels.items()]
            return page(Page(await _seen(tx, found), None))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            [node] = await _seen(tx, [(await tx.nodes.find(ref)).node])
        return one(node)

    async def update(self, ref: str, wanted: NodeUpdate) -> Response:
        """Of labels and taints only those that are named. What is there stays, also where it tolerates no new taint."""
        return await self._changed(ref, lambda tx, found: nodes.update(tx, found, wanted))

    async def cordon(self, ref: str) -> Response:
        """Nothing more is placed there. What is there stays."""
        return await self._changed(ref, nodes.cordon)

    async def uncordon(self, ref: str) -> Response:
        """Takes work again, and is drained no longer."""
        return await self._changed(ref, nodes.uncordon)

    async def drain(self, ref: str) -> Response:
        """Cordons it and has what is there moved or stopped; `running` of the node counts what is left."""
        return await self._changed(ref, nodes.drain)

    async def _changed(self, ref: str, change: Callable[[Transaction, Marked], Awaitable[Node]]) -> Response:
        async with self._store.write() as tx:
            return one(await change(tx, await tx.nodes.find(ref)))


async def _seen(tx: Transaction, found: list[Node]) -> list[NodeWithUse]:
    return nodes_with_use(found, await tx.sandboxes.holdings(), await tx.sandboxes.usage())
