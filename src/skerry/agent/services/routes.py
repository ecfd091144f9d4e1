"""The agent's routes of services: start, stop and restart one, read its log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from skerry.agent.sandboxes import Sandboxes
from skerry.agent.services.services import Services
from skerry.agent.sleep.sleeper import Sleeper
from skerry.errors import Invalid
from skerry.model.guest_service import GuestService


class GuestServiceRoutes:
    def __init__(self, sandboxes: Sandboxes, services: Services, sleeper: Sleeper) -> None:
        self._sandboxes = sandboxes
        self._services = services
        self._sleeper = sleeper

    def routes(self) -> list[BaseRoute]:
        one = "/sandboxes/{sandbox_id}/services/{name}"
        return [
            Route(one + "/start", self.start, methods=["POST"]),
            Route(one + "/stop", self.stop, methods=["POST"]),
            Route(one + "/restart", self.restart, methods=["POST"]),
            Route(one + "/logs", self.logs, methods=["GET"]),
        ]

    async def start(self, request: Request) -> Response:
        return await self._act(request, self._services.start)

    async def stop(self, request: Request) -> Response:
        return await self._act(request, self._services.stop)

    async def restart(self, request: Request) -> Response:
        return await self._act(request, self._services.restart)

    async def _act(self, request: Request, act: Callable[[str, str], Awaitable[None]]) -> Response:
        sandbox_id, name = _names(request)
        async with self._sleeper.awake(sandbox_id, f"service {name[:60]}"):
            await act(sandbox_id, name)
        spec = self._sandboxes.order_of(sandbox_id).spec.services[name]
        found = {status.name: status for status in self._services.statuses(sandbox_id)}
        answer = GuestService(name=name, spec=spec, status=found.get(name))
        return Response(answer.model_dump_json(), media_type="application/json")

    async def logs(self, request: Request) -> Response:
        sandbox_id, name = _names(request)
        tail = request.query_params.get("tail")
        if tail is not None and not tail.isdigit():
            raise Invalid("tail: a whole number of lines is needed", field="tail")
        follow = request.query_params.get("follow") == "true"
        lines = int(tail) if tail is not None else None
        stream = self._services.read_log(self._sandboxes.order_of(sandbox_id), name, follow=follow, tail=lines)
        return StreamingResponse(stream, media_type="text/plain; charset=utf-8")


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["sandbox_id"], request.path_params["name"]
