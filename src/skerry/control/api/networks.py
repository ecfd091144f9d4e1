"""Routes of private networks: make one, list, see who is in it, delete. Joining is the sandbox's: `networks`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from skerry.control.api.answers import CREATED, LIMIT, LabelsAsked, Limit, ListOf, PageToken, labels_asked, one, page
from skerry.control.intents import networks
from skerry.model.network import NetworkRequest, NetworkWithMembers, PrivateNetwork
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class NetworkRoutes:
    def __init__(self, store: Store, *, own_subnet: str) -> None:
        self._store = store
        self._own_subnet = own_subnet

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/networks", tags=["networks"])
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, response_model=PrivateNetwork)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[PrivateNetwork])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=NetworkWithMembers)
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], response_model=PrivateNetwork)
        return router

    async def create(self, request: NetworkRequest) -> Response:
        async with self._store.write() as tx:
            made = await networks.create(tx, request, own_subnet=self._own_subnet)
        return one(made, CREATED)

    async def list(self, label: LabelsAsked = None, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        async with self._store.read() as tx:
            found = await tx.networks.list(PROJECT, labels=labels_asked(label), limit=limit, page_token=page_token)
        return page(found)

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            network = await tx.networks.find(ref, PROJECT)
            members = (await tx.sandboxes.members()).get(network.name, [])
        return one(NetworkWithMembers(**network.model_dump(), members=members))

    async def delete(self, ref: str) -> Response:
        """Refused while a sandbox is in it."""
        async with self._store.write() as tx:
            network = await tx.networks.find(ref, PROJECT)
            await networks.delete(tx, network)
        return one(network)
