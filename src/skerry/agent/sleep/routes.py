"""The agent's routes of sleep: put one to sleep, wake it, keep it awake for a while, and tell why it is awake."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.model.fields import Frozen
from skerry.model.sleep import LeaseRequest, SleepRequest


class SleepRoutes:
    def __init__(self, sandboxes: Sandboxes, sleeper: Sleeper) -> None:
        self._sandboxes = sandboxes
        self._sleeper = sleeper

    def routes(self) -> list[BaseRoute]:
        one = "/sandboxes/{sandbox_id}"
        return [
            Route(one + "/sleep", self.sleep, methods=["POST"]),
            Route(one + "/wake", self.wake, methods=["POST"]),
            Route(one + "/activity", self.activity, methods=["GET"]),
            Route(one + "/leases", self.grant, methods=["POST"]),
            Route(one + "/leases/{lease_id}", self.end_lease, methods=["DELETE"]),
        ]

    async def sleep(self, request: Request) -> Response:
        asked = SleepRequest.model_validate_json(await request.body() or b"{}")
        return _json(await self._sleeper.sleep(_sandbox(request), asked))

    async def wake(self, request: Request) -> Response:
        sandbox_id = _sandbox(request)
        await self._sleeper.wake(sandbox_id, "asked")
        return _json(self._sandboxes.report_of(sandbox_id))

    async def activity(self, request: Request) -> Response:
        return _json(self._sleeper.activity(_sandbox(request)))

    async def grant(self, request: Request) -> Response:
        asked = LeaseRequest.model_validate_json(await request.body() or b"{}")
        return _json(await self._sleeper.grant(_sandbox(request), asked), 201)

    async def end_lease(self, request: Request) -> Response:
        return _json(self._sleeper.end_lease(_sandbox(request), request.path_params["lease_id"]))


def _sandbox(request: Request) -> str:
    return request.path_params["sandbox_id"]


def _json(body: Frozen, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")
