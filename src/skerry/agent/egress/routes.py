"""The agent's routes of egress: the log of the names a sandbox asked for, and a draft policy tried on it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from skerry.agent.egress.egress import Egress
from skerry.agent.sandboxes import Sandboxes
from skerry.errors import Invalid
from skerry.model.policy import Policy


class EgressRoutes:
    def __init__(self, sandboxes: Sandboxes, egress: Egress) -> None:
        self._sandboxes = sandboxes
        self._egress = egress

    def routes(self) -> list[BaseRoute]:
        one = "/sandboxes/{sandbox_id}/policy"
        return [Route(one + "/log", self.log), Route(one + "/test", self.test, methods=["POST"])]

    async def log(self, request: Request) -> Response:
        sandbox_id = self._known(request)
        tail = request.query_params.get("tail")
        if tail is not None and not tail.isdigit():
            raise Invalid("tail: a whole number of lines is needed", field="tail")
        follow = request.query_params.get("follow") == "true"
        lines = self._egress.read_log(sandbox_id, follow=follow, tail=int(tail) if tail is not None else None)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def test(self, request: Request) -> Response:
        sandbox_id = self._known(request)
        draft = Policy.model_validate_json(await request.body() or b"{}")
        tested = await self._egress.test(sandbox_id, draft)
        return Response(tested.model_dump_json(), media_type="application/json")

    def _known(self, request: Request) -> str:
        """Raises NotFound."""
        return self._sandboxes.report_of(request.path_params["sandbox_id"]).sandbox_id
