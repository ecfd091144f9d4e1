"""The agent's HTTP API over archives: write one, and the three steps by which one becomes a sandbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from skerry.agent.archives.export import Exports
from skerry.agent.archives.imports import Imports
from skerry.agent.images.routes import making_answer
from skerry.agent.images.streaming import Answer, StreamedAnswer
from skerry.model.archive import ArchiveOrder, ImportOrder
from skerry.model.order import Order


class ArchiveRoutes:
    def __init__(self, exports: Exports, imports: Imports) -> None:
        self._exports = exports
        self._imports = imports

    def routes(self) -> list[BaseRoute]:
        one = "/imports/{sandbox_id}"
        return [
            Route("/sandboxes/{sandbox_id}/archive", self.export, methods=["POST"]),
            Route("/imports", self.pending, methods=["GET"]),
            Route(one, self.receive, methods=["POST"]),
            Route(one, self.give_up, methods=["DELETE"]),
            Route(one + "/make", self.make, methods=["POST"]),
            Route(one + "/keep", self.keep, methods=["POST"]),
        ]

    async def export(self, request: Request) -> Response:
        order = ArchiveOrder.model_validate_json(await request.body())
        sandbox_id = request.path_params["sandbox_id"]

        @asynccontextmanager
        async def opens() -> AsyncGenerator[Answer, None]:
            async with self._exports.export(sandbox_id, order) as archive:
                yield Answer(archive.stream(), {"content-length": str(archive.size_bytes)})

        return StreamedAnswer(opens, "application/x-tar")

    async def pending(self, _: Request) -> Response:
        return JSONResponse({"items": [each.model_dump() for each in self._imports.pending()]})

    async def receive(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        size_bytes = int(length) if length.isdigit() else None
        try:
            document = await self._imports.receive(request.path_params["sandbox_id"], request.stream(), size_bytes)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        return Response(document.model_dump_json(), media_type="application/json")

    async def make(self, request: Request) -> Response:
        order = ImportOrder.model_validate_json(await request.body())
        sandbox_id = request.path_params["sandbox_id"]
        return making_answer(lambda progress: self._imports.make(sandbox_id, order, progress))

    async def keep(self, request: Request) -> Response:
        await self._imports.keep(Order.model_validate_json(await request.body()))
        return JSONResponse({})

    async def give_up(self, request: Request) -> Response:
        image = request.query_params.get("image") == "true"
        await self._imports.give_up(request.path_params["sandbox_id"], image=image)
        return JSONResponse({})
