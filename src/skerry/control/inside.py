"""What control tells our own programs, and is told by them, on its unix socket alone: over TCP these paths do not
exist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.control.door import header, is_tcp
from skerry.control.http_errors import send_error
from skerry.control.keys import KeyRing
from skerry.control.route_feed import RouteFeed
from skerry.control.tokens import TokenRing
from skerry.control.traffic_book import TrafficBook
from skerry.control.traffic_exchange import TrafficExchange
from skerry.errors import Invalid, NotFound, SkerryError, TooLarge
from skerry.model.explain import explain
from skerry.model.token import TOKEN_PREFIX
from skerry.model.traffic import ACCESS, TAKE, TRAFFIC, USAGE, Access, Take, TrafficReport, UsageReport
from skerry.store.store import Store

ROUTES, KEY = "/internal/routes", "/internal/key"
BODY_BYTES_MAX = 16 * 1024**2

M = TypeVar("M", bound=BaseModel)


class Inside:
    """The socket belongs to root and to nobody else, so whoever speaks here needs no key of its own."""

    def __init__(
        self,
        feed: RouteFeed,
        keys: KeyRing,
        tokens: TokenRing,
        store: Store,
        traffic: TrafficBook,
        exchange: TrafficExchange,
    ) -> None:
        self._feed = feed
        self._keys = keys
        self._tokens = tokens
        self._store = store
        self._traffic = traffic
        self._exchange = exchange
        self._answers: dict[str, Callable[[Scope, Receive], Awaitable[bytes]]] = {
            KEY: self._key,
            ACCESS: self._access,
            TAKE: self._take,
            TRAFFIC: self._note,
            USAGE: self._count,
        }

    def before(self, app: ASGIApp) -> ASGIApp:
        """What is not ours goes on to it."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            if scope["type"] != "http" or is_tcp(scope) or (path != ROUTES and path not in self._answers):
                return await app(scope, receive, send)
            if path == ROUTES:
                return await self._while_there(self._tell_routes(send), receive)
            try:
                body = await self._answers[path](scope, receive)
            except SkerryError as error:
                return await send_error(error, scope, receive, send)
            await send(_start(b"application/json"))
            return await send({"type": "http.response.body", "body": body})

        return door

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

    async def _key(self, scope: Scope, receive: Receive) -> bytes:
        key = await self._keys.key_of(header(scope, b"authorization"))
        return json.dumps({"project": key.project}).encode()

    async def _access(self, scope: Scope, receive: Receive) -> bytes:
        given = header(scope, b"authorization")
        scheme, _, secret = (given or "").partition(" ")
        if scheme.lower() == "bearer" and secret.startswith(TOKEN_PREFIX):
            return (await self._tokens.access(secret)).model_dump_json().encode()
        key = await self._keys.key_of(given)
        return Access(project=key.project, client=key.name, id=key.id).model_dump_json().encode()

    async def _take(self, scope: Scope, receive: Receive) -> bytes:
        asked = await _read(Take, receive)
        async with self._store.write() as tx:
            await tx.metering.lock()  # before reading what is spent
            token = await tx.tokens.get(asked.client)
            if token is None:
                raise NotFound(f"client: there is no token {asked.client}", field="client")
            given = await tx.metering.take(asked, token.spec.limits, token.spent)
        return given.model_copy(update={"gateways": max(1, self._traffic.gateways())}).model_dump_json().encode()

    async def _note(self, scope: Scope, receive: Receive) -> bytes:
        await self._exchange.tell(await _read(TrafficReport, receive))
        return b"{}"

    async def _count(self, scope: Scope, receive: Receive) -> bytes:
        report = await _read(UsageReport, receive)
        async with self._store.write() as tx:
            await tx.metering.count(report)
        return b"{}"


async def _read(model: type[M], receive: Receive) -> M:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_BYTES_MAX:
            raise TooLarge("this report is too large")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            break
    try:
        return model.model_validate_json(b"".join(parts))
    except ValidationError as error:
        raise explain(error, model) from None
    except ValueError as error:
        raise Invalid("the body is not JSON", because=str(error)) from None


def _start(kind: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
