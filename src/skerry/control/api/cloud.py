"""Routes about the cloud as a whole: its nodes, what it can do, whether it lives, and this API's own description."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from skerry import __version__
from skerry.control.api.answers import LIMIT, Limit, ListOf, PageToken, page
from skerry.model.fields import Frozen
from skerry.model.node import Node
from skerry.settings import Settings
from skerry.store.paging import Page
from skerry.store.store import Store


class Info(Frozen):
    version: str
    capabilities: dict[str, Any]


class Health(Frozen):
    status: str


class CloudRoutes:
    def __init__(self, store: Store, settings: Settings, document: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self._settings = settings
        self._document = document

    def router(self) -> APIRouter:
        router = APIRouter(tags=["cloud"])
        router.add_api_route("/health", self.health, methods=["GET"], response_model=Health)
        router.add_api_route("/v1/nodes", self.nodes, methods=["GET"], response_model=ListOf[Node])
        router.add_api_route("/v1/info", self.info, methods=["GET"], response_model=Info)
        router.add_api_route("/openapi.json", self.openapi, methods=["GET"], include_in_schema=False)
        return router

    async def health(self) -> Response:
        return JSONResponse({"status": "ok"})

    async def nodes(self, limit: Limit = LIMIT, page_token: PageToken = None) -> Response:
        """All in one page: there are as many as there are machines."""
        async with self._store.read() as tx:
            return page(Page(await tx.nodes.all(), None))

    async def info(self) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "capabilities": {
                    "runtimes": ["container"],
                    "checkpoint_disk": True,
                    "checkpoint_memory": False,
                    "host_mounts": [str(folder) for folder in self._settings.share],
                    "database": "postgresql" if self._store.has_other_writers else "sqlite",
                    "machine": platform.machine(),
                    "limits": {
                        "sandboxes_max": self._settings.sandboxes_max,
                        "body_bytes_max": self._settings.body_bytes_max,
                        "upload_bytes_max": self._settings.upload_bytes_max,
                        "exec_sessions_max": self._settings.exec_sessions_max,
                    },
                },
            }
        )

    async def openapi(self) -> Response:
        return JSONResponse(self._document())
