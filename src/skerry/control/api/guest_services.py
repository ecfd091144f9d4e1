"""Routes of a sandbox's services: list them, add or change one, remove one. The rest its machine answers itself."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from skerry.control.api.answers import Items, many, one
from skerry.control.intents import guest_services
from skerry.model.guest_service import GuestService, GuestServiceSpec
from skerry.model.sandbox import Sandbox
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class GuestServiceRoutes:
    def __init__(self, store: Store) -> None:
        self._store = store

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes/{ref}/services", tags=["services"])
        router.add_api_route("", self.list, methods=["GET"], response_model=Items[GuestService])
        router.add_api_route("/{service}", self.put, methods=["PUT"], response_model=GuestService)
        router.add_api_route("/{service}", self.remove, methods=["DELETE"], response_model=GuestService)
        return router

    async def list(self, ref: str) -> Response:
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
        return many([_service(sandbox, name) for name in sandbox.spec.services])

    async def put(self, ref: str, service: str, spec: GuestServiceSpec) -> Response:
        async with self._store.write() as tx:
            changed = await guest_services.put(tx, await tx.sandboxes.find(ref, PROJECT), service, spec)
        return one(_service(changed, service))

    async def remove(self, ref: str, service: str) -> Response:
        async with self._store.write() as tx:
            before = await tx.sandboxes.find(ref, PROJECT)
            await guest_services.remove(tx, before, service)
        return one(_service(before, service))


def _service(sandbox: Sandbox, name: str) -> GuestService:
    status = next((status for status in sandbox.services if status.name == name), None)
    return GuestService(name=name, spec=sandbox.spec.services[name], status=status)
