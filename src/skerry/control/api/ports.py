"""Routes of published ports: add one to a sandbox that may run, or take one away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from skerry.client.agent import AgentClient
from skerry.control.api.answers import CREATED, Items, many, one
from skerry.control.intents import ports
from skerry.errors import SkerryError
from skerry.model.port import HeldPort, Protocol, PublishedPort
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class HeldPorts:
    """What of the machine's ports is somebody else's: asked before the transaction, which must not wait for it."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent

    async def beside(self, wanted: Sequence[PublishedPort]) -> list[HeldPort]:
        if not wanted:
            return []
        try:
            return await self._agent.held_ports()
        except SkerryError:  # then its machine says so when it is to listen there
            return []


class PortRoutes:
    def __init__(self, store: Store, held: HeldPorts) -> None:
        self._store = store
        self._held = held

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes/{ref}/ports", tags=["sandboxes"])
        router.add_api_route("", self.add, methods=["POST"], status_code=CREATED, response_model=PublishedPort)
        router.add_api_route("/{host}", self.remove, methods=["DELETE"], response_model=Items[PublishedPort])
        return router

    async def add(self, ref: str, wanted: PublishedPort) -> Response:
        held = await self._held.beside([wanted])
        async with self._store.write() as tx:
            _, made = await ports.add(tx, await tx.sandboxes.find(ref, PROJECT), wanted, held)
        return one(made, CREATED)

    async def remove(
        self,
        ref: str,
        host: Annotated[int, Path(ge=1, le=65_535, description="The port of the machine")],
        protocol: Protocol = Protocol.TCP,
        ip: Annotated[str | None, Query(max_length=64, description="Only the one on this address")] = None,
    ) -> Response:
        async with self._store.write() as tx:
            _, removed = await ports.remove(tx, await tx.sandboxes.find(ref, PROJECT), host, protocol, ip)
        return many(removed)
