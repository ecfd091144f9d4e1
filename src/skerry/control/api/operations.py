"""Routes of operations: list, get or wait for one, watch one to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from skerry.control.api.answers import LIMIT, Limit, ListOf, PageToken, WaitS, lines, one, page
from skerry.control.waiting import Waiter
from skerry.model.operation import Operation, OperationState
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

WATCH_S_MAX = 86_400.0


class OperationRoutes:
    def __init__(self, store: Store, waiter: Waiter) -> None:
        self._store = store
        self._waiter = waiter

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/operations", tags=["operations"])
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Operation])
        router.add_api_route("/{operation_id}", self.get, methods=["GET"], response_model=Operation)
        router.add_api_route(
            "/{operation_id}/watch",
            self.watch,
            methods=["GET"],
            response_class=Response,
            responses={200: {"content": {"application/x-ndjson": {}}, "description": "An Operation a line"}},
        )
        return router

    async def list(
        self,
        target: Annotated[str | None, Query(max_length=64)] = None,
        state: OperationState | None = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            return page(
                await tx.operations.list(PROJECT, target=target, state=state, limit=limit, page_token=page_token)
            )

    async def get(self, operation_id: str, wait_s: WaitS = 0.0) -> Response:
        return one(await self._waiter.until([operation_id], lambda: self._find(operation_id), _has_ended, wait_s))

    async def watch(self, request: Request, operation_id: str) -> Response:
        first = await self._find(operation_id)

        async def changes() -> AsyncIterator[Operation]:
            told = first
            yield told
            while not _has_ended(told):
                seen = told

                def differs(found: Operation, seen: Operation = seen) -> bool:
                    return found != seen

                told = await self._waiter.until([operation_id], lambda: self._find(operation_id), differs, WATCH_S_MAX)
                yield told

        return lines(request, changes())

    async def _find(self, operation_id: str) -> Operation:
        async with self._store.read() as tx:
            return await tx.operations.find(operation_id, PROJECT)


def _has_ended(operation: Operation) -> bool:
    return operation.state is not OperationState.RUNNING
