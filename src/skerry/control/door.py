"""What every request passes first: the right host, a key, a body of bearable size. Plain ASGI, as all traffic does."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.control.http_errors import send_error
from skerry.control.keys import KeyRing
from skerry.errors import Forbidden, NotFound, SkerryError, TooLarge
from skerry.model.amounts import format_size
from skerry.store.transaction import PROJECT

OPEN_PATHS = frozenset({"/health", "/schema.json"})
"""An editor that completes a skerry.yaml has no key to show, and its schema is no secret."""
LINGER_S = 1.0
"""A client that is still sending when it is refused reads its answer only if the connection stays for a moment."""

IsStreamed = Callable[[Scope], bool]


def header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def is_tcp(scope: Scope) -> bool:
    """A unix socket has no port."""
    server = scope.get("server")
    return server is not None and server[1] is not None


class QuietEnd:
    """When the server stops it cancels what still goes on (followers of logs never end by themselves). Their
    connections are closed unfinished, which tells their clients; a stack trace for each would tell nobody anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            return


class HostCheck:
    """A web page whose domain is pointed at 127.0.0.1 (DNS rebinding) names that domain as the host: refused. Numeric
    addresses cannot be rebound, and the unix socket cannot be reached by a browser."""

    def __init__(self, app: ASGIApp, listen_host: str) -> None:
        self._app = app
        self._names = {"localhost", listen_host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_tcp(scope) and not self._allowed(header(scope, b"host") or ""):
            error = Forbidden("this host name is not one of the server's; use its address or localhost")
            return await send_error(error, scope, receive, send)
        await self._app(scope, receive, send)
        return None

    def _allowed(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Authentication:
    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN_PATHS:
            try:
                scope["skerry.key"] = await self._keys.key_of(header(scope, b"authorization"))
                _check_project(header(scope, b"skerry-project"))
            except SkerryError as error:
                return await send_error(error, scope, receive, send)
        await self._app(scope, receive, send)
        return None


def _check_project(name: str | None) -> None:
    """One that is not there must not be taken for the one that is: its sandboxes would look like the caller's own."""
    if name is not None and name != PROJECT:
        raise NotFound(f"there is no project {name!r} here; there is only {PROJECT!r}")


class BodyLimit:
    """Refuses by Content-Length before anything is read, and by count where a length is not told or is a lie."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int, upload_bytes_max: int, is_streamed: IsStreamed) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._upload_bytes_max = upload_bytes_max
        self._is_streamed = is_streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        streamed = self._is_streamed(scope)
        bytes_max = self._upload_bytes_max if streamed else self._body_bytes_max
        length = header(scope, b"content-length") or ""
        if length.isdigit() and int(length) > bytes_max:
            return await refuse_body(bytes_max, scope, receive, send)
        counted = counting(receive, bytes_max)
        if streamed:
            return await self._app(scope, counted, send)
        try:
            body = await _whole(counted)
        except TooLarge:
            return await refuse_body(bytes_max, scope, receive, send)
        return await self._app(scope, _replay(body, receive), send)


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than {format_size(bytes_max)}, the most that is allowed here")


def counting(receive: Receive, bytes_max: int) -> Receive:
    """Raises TooLarge from the read that goes over."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > bytes_max:
            raise too_large(bytes_max)
        return message

    return counted


async def refuse_body(bytes_max: int, scope: Scope, receive: Receive, send: Send) -> None:
    await send_error(too_large(bytes_max), scope, receive, held_open(receive, send), connection="close")


def held_open(receive: Receive, send: Send) -> Send:
    """For an answer given before the body was read: it is sent at once, then the rest is read for a moment. Closing
    on a client that still sends resets the connection, and the reset would take the answer with it."""

    async def lingering(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await send({**message, "more_body": True})
            try:
                async with asyncio.timeout(LINGER_S):
                    while (await receive()).get("more_body", False):
                        pass
            except (TimeoutError, SkerryError):
                pass
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return lingering


async def _whole(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
