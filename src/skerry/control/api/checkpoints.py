"""Routes of checkpoints, below their sandbox. Their files and differences go by the passage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from skerry.control.api.answers import (
    CREATED,
    DONE,
    GOING_ON,
    LIMIT,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    one,
    page,
    waiting_responses,
)
from skerry.control.intents.checkpoints import request_checkpoint, request_deletion
from skerry.control.waiting import Waiter
from skerry.model.checkpoint import Checkpoint, CheckpointRequest, CheckpointState, Origin
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

UNDER_WAY = (CheckpointState.CREATING, CheckpointState.DELETING)


class CheckpointRoutes:
    def __init__(self, store: Store, waiter: Waiter) -> None:
        self._store = store
        self._waiter = waiter

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes/{ref}/checkpoints", tags=["checkpoints"])
        router.add_api_route(
            "", self.create, methods=["POST"], status_code=CREATED, responses=waiting_responses(CREATED, Checkpoint)
        )
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Checkpoint])
        router.add_api_route("/{checkpoint_ref}", self.get, methods=["GET"], response_model=Checkpoint)
        router.add_api_route(
            "/{checkpoint_ref}", self.delete, methods=["DELETE"], responses=waiting_responses(DONE, Checkpoint)
        )
        return router

    async def create(
        self, ref: str, request: Annotated[CheckpointRequest | None, Body()] = None, wait_s: WaitS = 0.0
    ) -> Response:
        async with self._store.write() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
            comment = (request or CheckpointRequest()).comment
            made = await request_checkpoint(tx, sandbox.id, Origin.USER, comment=comment)
        return await self._settled(made, wait_s, CREATED)

    async def list(self, ref: str, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
            return page(await tx.checkpoints.list_of(sandbox.id, limit=limit, page_token=page_token))

    async def get(self, ref: str, checkpoint_ref: str) -> Response:
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
            return one(await tx.checkpoints.find_of(sandbox.id, checkpoint_ref))

    async def delete(self, ref: str, checkpoint_ref: str, wait_s: WaitS = 0.0) -> Response:
        async with self._store.write() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
            changed = await request_deletion(tx, await tx.checkpoints.find_of(sandbox.id, checkpoint_ref))
        return await self._settled(changed, wait_s, DONE)

    async def _settled(self, checkpoint: Checkpoint, wait_s: float, done: int) -> Response:
        async def read() -> Checkpoint:
            async with self._store.read() as tx:
                return await tx.checkpoints.get(checkpoint.id) or checkpoint

        if wait_s:
            checkpoint = await self._waiter.until(
                [checkpoint.id], read, lambda found: found.state not in UNDER_WAY, wait_s
            )
        return one(checkpoint, GOING_ON if checkpoint.state in UNDER_WAY else done)
