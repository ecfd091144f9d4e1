"""Routes about the cloud as a whole: what it can do, whether it lives, and this API's own description."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from skerry import __version__
from skerry.model.environment import schema_text
from skerry.model.fields import Frozen
from skerry.settings import Settings
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
        router.add_api_route("/v1/info", self.info, methods=["GET"], response_model=Info)
        router.add_api_route("/schema.json", self.schema, methods=["GET"], include_in_schema=False)
        router.add_api_route("/openapi.json", self.openapi, methods=["GET"], include_in_schema=False)
        return router

    async def health(self) -> Response:
        return JSONResponse({"status": "ok"})

    async def schema(self) -> Response:
        """Of skerry.yaml, for editors."""
        return Response(schema_text(), media_type="application/schema+json")

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
