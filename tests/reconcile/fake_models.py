"""What the agent without a machine has of models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from skerry.model.weights import MadeModel, ModelCard, ModelFile, ModelFormat, ModelOrder, digest_of

Make = Callable[[web.Request, str, Callable[[], dict[str, Any]]], Awaitable[web.StreamResponse]]


class FakeModels:
    def __init__(self, models: dict[str, ModelOrder], calls: list[str], make: Make) -> None:
        self._models = models
        self._calls = calls
        self._make = make

    def add_routes(self, add: Callable[..., Any], verb: Callable[..., Any]) -> None:
        add("GET", "/models", verb("models", self._list))
        add("PUT", "/models/{cid}", self._create)
        add("GET", "/models/{cid}", verb("model_files", self._files))
        add("DELETE", "/models/{cid}", verb("delete_model", self._delete))

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"items": sorted(self._models)})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        order = ModelOrder.model_validate_json(await request.read())
        self._calls.append(f"model {order.source}")
        return await self._make(request, order.source, partial(self._have, request.match_info["cid"], order))

    def _have(self, model_id: str, order: ModelOrder) -> dict[str, Any]:
        self._models[model_id] = order
        files = [ModelFile(path="model.gguf", size_bytes=1000, sha256="0" * 64)]
        card = ModelCard(format=ModelFormat.GGUF, main="model.gguf", parameters={"stop": ["</s>"], "top_k": 40})
        made = MadeModel(digest=digest_of(files), size_bytes=1000, revision="abc", files=files, card=card)
        return made.model_dump(mode="json")

    async def _files(self, request: web.Request) -> web.Response:
        model_id = request.match_info["cid"]
        return web.json_response(self._have(model_id, self._models[model_id]))

    async def _delete(self, request: web.Request) -> web.Response:
        self._models.pop(request.match_info["cid"], None)
        return web.json_response({})
