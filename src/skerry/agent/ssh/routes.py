"""The agent's routes of SSH access: where to connect and with which keys, one more key, none any more."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from skerry.agent.sandboxes import Sandboxes
from skerry.agent.ssh.listener import SshListener
from skerry.model.ssh import SshAccessRequest


class SshRoutes:
    def __init__(self, sandboxes: Sandboxes, listener: SshListener) -> None:
        self._sandboxes = sandboxes
        self._listener = listener

    def routes(self) -> list[BaseRoute]:
        path = "/sandboxes/{sandbox_id}/ssh-access"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.grant, methods=["POST"]),
            Route(path, self.revoke, methods=["DELETE"]),
        ]

    async def show(self, request: Request) -> Response:
        return JSONResponse((await self._listener.access(self._sandbox(request))).model_dump(mode="json"))

    async def grant(self, request: Request) -> Response:
        asked = SshAccessRequest.model_validate_json(await request.body() or b"{}")
        granted = await self._listener.grant(self._sandbox(request), asked.for_s)
        return JSONResponse(granted.model_dump(mode="json"), status_code=201)

    async def revoke(self, request: Request) -> Response:
        self._listener.revoke(self._sandbox(request))
        return JSONResponse({})

    def _sandbox(self, request: Request) -> str:
        """Raises NotFound for one that is not on this machine."""
        sandbox_id: str = request.path_params["sandbox_id"]
        self._sandboxes.entry(sandbox_id)
        return sandbox_id
