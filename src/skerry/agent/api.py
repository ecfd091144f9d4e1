"""The agent's HTTP API over sandboxes, checkpoints, logs and use. Only control speaks to it, over a unix socket."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from skerry.agent.archives.imports import Imports
from skerry.agent.guest import GuestDoor
from skerry.agent.images.store import COMMIT_PREFIX
from skerry.agent.kept_logs import check_name
from skerry.agent.machine import Machine
from skerry.agent.reports import Reports
from skerry.agent.sandboxes import Sandboxes
from skerry.clock import Clock
from skerry.errors import Invalid
from skerry.model.fields import Frozen
from skerry.model.order import Order
from skerry.model.stats import Stats
from skerry.runtime.contract import Runtime


class StopOrder(Frozen):
    generation: int
    grace_s: Annotated[float, Field(ge=0, le=3600)] = 10.0


class RestoreOrder(Frozen):
    generation: int
    checkpoint: str
    order: Order


class CheckpointOrder(Frozen):
    request_id: str | None = None


class Refusal(Frozen):
    request_id: str
    message: str


class AgentRoutes:
    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        runtime: Runtime,
        reports: Reports,
        guests: GuestDoor,
        imports: Imports,
        machine: Machine,
        clock: Clock,
    ) -> None:
        self._sandboxes = sandboxes
        self._runtime = runtime
        self._reports = reports
        self._guests = guests
        self._imports = imports
        self._machine = machine
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        one = "/sandboxes/{sandbox_id}"
        return [
            Route("/health", self.health),
            Route("/capacity", self.capacity),
            Route("/reports", self.reports),
            Route(one, self.inspect, methods=["GET"]),
            Route(one, self.ensure, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/stop", self.stop, methods=["POST"]),
            Route(one + "/restore", self.restore, methods=["POST"]),
            Route(one + "/logs", self.logs),
            Route(one + "/stats", self.stats),
            Route(one + "/checkpoints/{checkpoint_id}", self.checkpoint, methods=["PUT"]),
            Route(one + "/checkpoint-refused", self.refuse, methods=["POST"]),
            Route("/checkpoints", self.checkpoints),
            Route("/checkpoints/{checkpoint_id}", self.delete_checkpoint, methods=["DELETE"]),
        ]

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def capacity(self, _: Request) -> Response:
        return _json(await self._machine.capacity())

    async def reports(self, request: Request) -> Response:
        if request.query_params.get("watch") == "true":
            return StreamingResponse(self._reports.watch(), media_type="application/x-ndjson")
        return JSONResponse({"items": [report.model_dump(mode="json") for report in self._reports.all()]})

    async def inspect(self, request: Request) -> Response:
        return _json(self._sandboxes.report_of(_sandbox(request)))

    async def ensure(self, request: Request) -> Response:
        order = Order.model_validate_json(await request.body())
        if order.sandbox_id != _sandbox(request):
            raise Invalid("the order is for another sandbox than the path names", field="sandbox_id")
        return _json(await self._sandboxes.ensure(order, start=request.query_params.get("start") != "false"))

    async def stop(self, request: Request) -> Response:
        asked = StopOrder.model_validate_json(await request.body())
        return _json(await self._sandboxes.stop(_sandbox(request), asked.generation, asked.grace_s))

    async def restore(self, request: Request) -> Response:
        asked = RestoreOrder.model_validate_json(await request.body())
        return _json(await self._sandboxes.restore(asked.order, asked.checkpoint))

    async def delete(self, request: Request) -> Response:
        generation = request.query_params.get("generation", "")
        if not generation.isdigit():
            raise Invalid("generation: a whole number is needed", field="generation")
        keep_log = request.query_params.get("keep_log")
        if keep_log is not None:
            check_name(keep_log)
        return _json(await self._sandboxes.delete(_sandbox(request), int(generation), keep_log))

    async def checkpoint(self, request: Request) -> Response:
        asked = CheckpointOrder.model_validate_json(await request.body() or b"{}")
        checkpoint_id = request.path_params["checkpoint_id"]
        frozen_ms = await self._sandboxes.checkpoint(_sandbox(request), checkpoint_id)
        if asked.request_id is not None:
            self._guests.answer(asked.request_id, checkpoint_id)
        return JSONResponse({"frozen_ms": frozen_ms})

    async def refuse(self, request: Request) -> Response:
        asked = Refusal.model_validate_json(await request.body())
        self._guests.refuse(asked.request_id, asked.message)
        return JSONResponse({})

    async def checkpoints(self, _: Request) -> Response:
        """Those that are somebody's."""
        kept, passing = await self._runtime.checkpoints(), self._imports.checkpoints()
        return JSONResponse(
            {"items": [name for name in kept if not name.startswith(COMMIT_PREFIX) and name not in passing]}
        )

    async def delete_checkpoint(self, request: Request) -> Response:
        await self._runtime.delete_checkpoint(request.path_params["checkpoint_id"])
        return JSONResponse({})

    async def logs(self, request: Request) -> Response:
        self._sandboxes.report_of(_sandbox(request))
        tail = request.query_params.get("tail")
        if tail is not None and not tail.isdigit():
            raise Invalid("tail: a whole number of lines is needed", field="tail")
        follow = request.query_params.get("follow") == "true"
        until_end = request.query_params.get("until") == "end"
        if until_end:
            follow = follow and self._sandboxes.runs(_sandbox(request))
        log = self._sandboxes.log_of(_sandbox(request))
        stream = log.read(follow=follow, tail=int(tail) if tail is not None else None, until_end=until_end)
        return StreamingResponse(stream, media_type="text/plain; charset=utf-8")

    async def stats(self, request: Request) -> Response:
        sandbox_id = _sandbox(request)
        spec = self._sandboxes.order_of(sandbox_id).spec
        usage = await self._runtime.usage(sandbox_id)
        return _json(
            Stats(
                at=self._clock.now(),
                cpu_s=usage.cpu_s,
                memory_bytes=usage.memory_bytes,
                memory_limit_bytes=spec.memory,
                memory_peak_bytes=usage.memory_peak_bytes,
                oom_kills=usage.oom_kills,
                pids=usage.pids,
                pids_limit=spec.pids,
                disk_bytes=usage.disk_bytes,
                disk_limit_bytes=spec.disk,
                network_received_bytes=usage.network_received_bytes,
                network_sent_bytes=usage.network_sent_bytes,
                network_connections=usage.network_connections,
            )
        )


def _sandbox(request: Request) -> str:
    return request.path_params["sandbox_id"]


def _json(body: Frozen) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
