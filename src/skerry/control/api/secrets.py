"""Routes of secrets: set one, list, see what is known of it, delete. There is no way to read a value back."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from skerry.control.api.answers import LIMIT, Limit, ListOf, PageToken, one, page
from skerry.control.intents import secrets
from skerry.model.fields import Name
from skerry.model.secret import Secret, SecretRequest, SecretWithUsers
from skerry.sealing import Sealer
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class SecretRoutes:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/secrets", tags=["secrets"])
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Secret])
        router.add_api_route("/{name}", self.set, methods=["PUT"], response_model=Secret)
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=SecretWithUsers)
        router.add_api_route("/{ref}", self.delete, methods=["DELETE"], response_model=Secret)
        return router

    async def set(self, name: Name, request: SecretRequest) -> Response:
        """A new one, or the next version: sandboxes that run keep what they have until their next start."""
        async with self._store.write() as tx:
            return one(await secrets.set_value(tx, name, request, self._sealer))

    async def list(self, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        async with self._store.read() as tx:
            return page(await tx.secrets.list(PROJECT, limit=limit, page_token=page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            secret = await tx.secrets.find(ref, PROJECT)
            users = (await tx.sandboxes.users_of_secrets()).get(secret.name, [])
        return one(SecretWithUsers(**secret.model_dump(), used_by=users))

    async def delete(self, ref: str, force: bool = False) -> Response:
        """Refused while a sandbox names it, unless by `force`."""
        async with self._store.write() as tx:
            secret = await tx.secrets.find(ref, PROJECT)
            await secrets.delete(tx, secret, force=force)
        return one(secret)
