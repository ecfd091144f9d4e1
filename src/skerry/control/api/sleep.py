"""Routes of sleep: put a sandbox to sleep, wake it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from skerry.control.api.answers import one
from skerry.control.sleeping import Sleeping
from skerry.model.sandbox import Sandbox
from skerry.model.sleep import SleepRequest
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class SleepRoutes:
    def __init__(self, store: Store, sleeping: Sleeping) -> None:
        self._store = store
        self._sleeping = sleeping

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes/{ref}", tags=["sandboxes"])
        router.add_api_route("/sleep", self.sleep, methods=["POST"], response_model=Sandbox)
        router.add_api_route("/wake", self.wake, methods=["POST"], response_model=Sandbox)
        return router

    async def sleep(self, ref: str, request: Annotated[SleepRequest | None, Body()] = None) -> Response:
        return one(await self._sleeping.sleep(await self._found(ref), request or SleepRequest()))

    async def wake(self, ref: str) -> Response:
        return one(await self._sleeping.wake(await self._found(ref)))

    async def _found(self, ref: str) -> Sandbox:
        async with self._store.read() as tx:
            return await tx.sandboxes.find(ref, PROJECT)
