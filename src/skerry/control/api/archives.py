"""Routes of archives: a sandbox with its checkpoints as one, and one as a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skerry.client.agent import AgentClient
from skerry.control.api.answers import CREATED, GOING_ON, WaitS, one, waiting_responses
from skerry.control.api.caller import Caller
from skerry.control.importing import Importing
from skerry.control.intents.archives import archive_order
from skerry.control.passage.http import Exchange
from skerry.control.waiting import Waiter
from skerry.errors import Invalid
from skerry.model.archive import Drop, ImportRequest
from skerry.model.sandbox import AT_REST, Sandbox
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

TAR = {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}
IMPORTS_MAX = 4


class ArchiveRoutes:
    def __init__(self, store: Store, waiter: Waiter, agent: AgentClient, importing: Importing) -> None:
        self._store = store
        self._waiter = waiter
        self._agent = agent
        self._importing = importing
        self._imports = asyncio.Semaphore(IMPORTS_MAX)

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])
        router.add_api_route(
            "/{ref}/archive", self.export, methods=["GET"], response_class=Response, responses={200: {"content": TAR}}
        )
        router.add_api_route(
            "/import",
            self.read,
            methods=["POST"],
            status_code=CREATED,
            responses=waiting_responses(CREATED, Sandbox),
            openapi_extra={
                "requestBody": {"required": True, "description": "What export wrote", "content": TAR},
            },
        )
        return router

    async def export(self, ref: str) -> Response:
        """Its checkpoints and its disk as it is now, as an OCI archive. It goes on running."""
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
            order = await archive_order(tx, sandbox)
        return _Asked(self._agent, f"/sandboxes/{sandbox.id}/archive", order.model_dump_json().encode())

    async def read(
        self,
        request: Request,
        caller: Caller,
        name: Annotated[str | None, Query(max_length=63, description="Call it this; else what it was called")] = None,
        start: Annotated[bool | None, Query(description="Whether to start it; else as it was")] = None,
        drop: Annotated[list[Drop] | None, Query(description="Leave this field of its spec behind")] = None,
        wait_s: WaitS = 0.0,
    ) -> Response:
        """The sandbox is made when the body has been read; `wait_s` waits until it runs, if it is to."""
        try:
            asked = ImportRequest(name=name, start=start, drop=drop or [])
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise Invalid(f"name: {(name or '')[:70]!r} is not allowed; {message}", field="name") from None
        async with self._imports:
            sandbox = await self._while_there(request, asked, caller.name)

        async def read() -> Sandbox:
            async with self._store.read() as tx:
                return await tx.sandboxes.get(sandbox.id) or sandbox

        if wait_s:
            sandbox = await self._waiter.until([sandbox.id], read, lambda found: found.state in AT_REST, wait_s)
        return one(sandbox, CREATED if sandbox.state in AT_REST else GOING_ON)

    async def _while_there(self, request: Request, asked: ImportRequest, owner: str) -> Sandbox:
        """Who leaves before it is made does not want it."""
        sent = asyncio.Event()
        work = asyncio.ensure_future(self._importing.run(_chunks(request, sent), asked, owner))
        gone = asyncio.ensure_future(_gone(request, sent))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.wait({work, gone})


async def _chunks(request: Request, sent: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
    sent.set()


async def _gone(request: Request, sent: asyncio.Event) -> None:
    """While the body comes, whoever reads it notices."""
    await sent.wait()
    while (await request.receive())["type"] != "http.disconnect":
        continue


class _Asked(Response):
    """What the agent answers, as it comes."""

    def __init__(self, agent: AgentClient, path: str, body: bytes) -> None:
        super().__init__()
        self._agent = agent
        self._path = path
        self._asked = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange(self._agent, scope, receive, send).run(self._path, posting=self._asked)
