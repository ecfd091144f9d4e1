"""Volumes on this machine, and the agent's HTTP API over them: one verb at a time for each, which may be repeated."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated
from weakref import WeakValueDictionary

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from skerry.agent.sandboxes import Sandboxes
from skerry.errors import InUse, Invalid
from skerry.model.fields import Frozen
from skerry.runtime.contract import Runtime

_ID = re.compile(r"vol-[0-9a-f]{12}")

Bytes = Annotated[int, Field(gt=0)]


class VolumeOrder(Frozen):
    size_bytes: Bytes
    source: str | None = None
    readonly: bool = False


class ResizeOrder(Frozen):
    size_bytes: Bytes


class VolumeRoutes:
    def __init__(self, runtime: Runtime, sandboxes: Sandboxes) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def routes(self) -> list[Route]:
        return [
            Route("/volumes", self.all, methods=["GET"]),
            Route("/volumes/{volume_id}", self.create, methods=["PUT"]),
            Route("/volumes/{volume_id}", self.delete, methods=["DELETE"]),
            Route("/volumes/{volume_id}/resize", self.resize, methods=["POST"]),
        ]

    async def all(self, _: Request) -> Response:
        found = await self._runtime.volumes()
        return JSONResponse({"items": [{"id": name, "used_bytes": used} for name, used in found.items()]})

    async def create(self, request: Request) -> Response:
        volume_id = _checked(request.path_params["volume_id"])
        asked = VolumeOrder.model_validate_json(await request.body())
        source = _checked(asked.source) if asked.source is not None else None
        limit_bytes = None if asked.readonly else asked.size_bytes
        async with self._lock(volume_id):
            await self._runtime.create_volume(volume_id, source, limit_bytes, readonly=asked.readonly)
        return JSONResponse({})

    async def resize(self, request: Request) -> Response:
        volume_id = _checked(request.path_params["volume_id"])
        asked = ResizeOrder.model_validate_json(await request.body())
        async with self._lock(volume_id):
            await self._runtime.resize_volume(volume_id, asked.size_bytes)
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        """Control has made sure that nobody mounts it; what is in it cannot be had again, so we look, too."""
        volume_id = _checked(request.path_params["volume_id"])
        async with self._lock(volume_id):
            for entry in self._sandboxes.entries():
                wakes = self._sandboxes.runs(entry.sandbox_id) or self._sandboxes.sleeps(entry.sandbox_id)
                if wakes and entry.order is not None and volume_id in entry.order.volumes.values():
                    raise InUse(f"sandbox {entry.order.hostname} of this machine mounts the volume")
            await self._runtime.delete_volume(volume_id)
        return JSONResponse({})

    def _lock(self, volume_id: str) -> asyncio.Lock:
        return self._locks.setdefault(volume_id, asyncio.Lock())


def _checked(volume_id: str) -> str:
    """Ids become file names, so nothing else may pass; raises Invalid."""
    if not _ID.fullmatch(volume_id):
        raise Invalid("a volume's id is 'vol-' and 12 hex digits", field="volume_id")
    return volume_id
