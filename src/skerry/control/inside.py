"""What control tells our own programs, on its unix socket alone: over TCP these paths do not exist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.control.door import header, is_tcp
from skerry.control.http_errors import send_error
from skerry.control.keys import KeyRing
from skerry.control.route_feed import RouteFeed
from skerry.errors import SkerryError

ROUTES, KEY = "/internal/routes", "/internal/key"


class Inside:
    """The socket belongs to root and to nobody else, so whoever speaks here needs no key of its own."""

    def __init__(self, app: ASGIApp, feed: RouteFeed, keys: KeyRing) -> None:
        self._app = app
        self._feed = feed
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (ROUTES, KEY) or is_tcp(scope):
            return await self._app(scope, receive, send)
        if scope["path"] == ROUTES:
            return await self._while_there(self._tell_routes(send), receive)
        try:
            key = await self._keys.key_of(header(scope, b"authorization"))
        except SkerryError as error:
            return await send_error(error, scope, receive, send)
        await send(_start(b"application/json"))
        return await send({"type": "http.response.body", "body": json.dumps({"project": key.project}).encode()})

    async def _while_there(self, telling: Coroutine[Any, Any, None], receive: Receive) -> None:
        """The server swallows what is sent to who has left: nothing else would end this."""
        task = asyncio.ensure_future(telling)
        try:
            while not task.done() and (await receive())["type"] != "http.disconnect":
                pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tell_routes(self, send: Send) -> None:
        await send(_start(b"application/x-ndjson"))
        async for news in self._feed.news():
            line = news.model_dump_json(exclude_none=True).encode() + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})


def _start(kind: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
