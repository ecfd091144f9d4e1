"""The agent's routes of logs whose sandboxes are gone: read one, and remove all of a job."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from skerry.agent.kept_logs import KeptLogs
from skerry.agent.logs import OutputLog
from skerry.errors import Invalid, NotFound


class KeptLogRoutes:
    def __init__(self, kept: KeptLogs) -> None:
        self._kept = kept

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/job-logs/{job}/{name}", self.read),
            Route("/job-logs/{job}", self.forget, methods=["DELETE"]),
        ]

    async def read(self, request: Request) -> Response:
        tail = request.query_params.get("tail")
        if tail is not None and not tail.isdigit():
            raise Invalid("tail: a whole number of lines is needed", field="tail")
        folder = self._kept.path(f"{request.path_params['job']}/{request.path_params['name']}")
        if not folder.is_dir():
            raise NotFound("its output is not kept here any more")
        stream = OutputLog(folder, bytes_max=2**62, keep=0).read(follow=False, tail=None if tail is None else int(tail))
        return StreamingResponse(stream, media_type="text/plain; charset=utf-8")

    async def forget(self, request: Request) -> Response:
        await self._kept.forget(request.path_params["job"])
        return JSONResponse({})
