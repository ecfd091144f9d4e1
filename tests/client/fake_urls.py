"""URLs of the fake control plane: the words of the real one, and links that open nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from skerry.model.sandbox import Sandbox
from skerry.model.url import LinkRequest, Url, label

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl


class FakeUrls:
    def __init__(self, control: FakeControl) -> None:
        self._control = control

    def routes(self, box: str) -> list[web.RouteDef]:
        return [web.get(box + "/url", self._get), web.post(box + "/url", self._sign)]

    async def _get(self, request: web.Request) -> web.Response:
        port = request.query.get("port")
        return self._answer(request, None if port is None else int(port))

    async def _sign(self, request: web.Request) -> web.Response:
        asked = LinkRequest.model_validate(await request.json())
        expires_at = datetime.now(UTC) + timedelta(seconds=asked.expires_s)
        return self._answer(request, asked.port, "?skerry_token=signed", expires_at)

    def _answer(
        self, request: web.Request, port: int | None, query: str = "", expires_at: datetime | None = None
    ) -> web.Response:
        found: Sandbox = self._control.find(request.match_info["ref"])
        place = label(found.name, found.id, port)
        url = Url(
            url=f"http://{place}.localhost:7080/{query}", port=port, public=found.spec.public, expires_at=expires_at
        )
        return web.json_response(text=url.model_dump_json())
