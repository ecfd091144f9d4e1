"""The agent's HTTP API over models. Having one made answers with NDJSON: progress, then `done` or `error`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from skerry.agent.images.routes import making_answer
from skerry.agent.models.cache import check_id
from skerry.agent.models.store import ModelStore
from skerry.agent.sandboxes import Sandboxes
from skerry.errors import InUse
from skerry.model.weights import ModelOrder


class ModelRoutes:
    def __init__(self, models: ModelStore, sandboxes: Sandboxes) -> None:
        self._models = models
        self._sandboxes = sandboxes

    def routes(self) -> list[Route]:
        return [
            Route("/models", self.all, methods=["GET"]),
            Route("/models/{model_id}", self.have, methods=["PUT"]),
            Route("/models/{model_id}", self.get, methods=["GET"]),
            Route("/models/{model_id}", self.delete, methods=["DELETE"]),
        ]

    async def all(self, _: Request) -> Response:
        return JSONResponse({"items": self._models.models()})

    async def have(self, request: Request) -> Response:
        model_id = check_id(request.path_params["model_id"])
        order = ModelOrder.model_validate_json(await request.body())
        return making_answer(lambda tell: self._models.have(model_id, order, tell))

    async def get(self, request: Request) -> Response:
        return JSONResponse(self._models.get(request.path_params["model_id"]).told())

    async def delete(self, request: Request) -> Response:
        """Control has made sure that nobody mounts it; a sandbox that runs would lose its files, so we look, too."""
        model_id = check_id(request.path_params["model_id"])
        for entry in self._sandboxes.entries():
            wakes = self._sandboxes.runs(entry.sandbox_id) or self._sandboxes.sleeps(entry.sandbox_id)
            if wakes and entry.order is not None and model_id in entry.order.models.values():
                raise InUse(f"sandbox {entry.order.hostname} of this machine mounts the model")
        await self._models.delete(model_id)
        return JSONResponse({})
