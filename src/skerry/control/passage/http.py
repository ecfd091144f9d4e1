"""Pass one HTTP request on to the agent, both directions as they come; whoever leaves ends the other side at once.

Plain ASGI and not a FastAPI route: this carries every command and file, and its cost is added to each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.client.agent import AgentClient, translate
from skerry.control.door import held_open
from skerry.control.http_errors import error_response, send_error
from skerry.control.passage.routes import match
from skerry.control.passage.socket import pass_socket
from skerry.control.passage.target import Targets
from skerry.errors import SkerryError

PASSED_ON = frozenset({b"content-type", b"content-length", b"accept", b"range", b"if-match", b"if-none-match"})
PASSED_BACK = frozenset(
    {"content-type", "content-length", "content-range", "accept-ranges", "etag", "last-modified", "retry-after"}
)
"""Named ones only: hop-by-hop headers are ours, and a key is nothing for the agent to see."""


class ClientGone(Exception):
    """The caller left; nobody is there to be answered."""


class Passage:
    def __init__(self, inner: ASGIApp, targets: Targets, agent: AgentClient) -> None:
        self._inner = inner
        self._targets = targets
        self._agent = agent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        found = match("WS" if is_socket else scope["method"], scope["path"])
        if found is None:
            return await self._inner(scope, receive, send)
        passed, names = found
        try:
            target = await self._targets.find(passed, names, scope["path"], scope["query_string"].decode("latin-1"))
        except SkerryError as error:
            return await send_error(error, scope, receive, send)
        if is_socket:
            return await pass_socket(self._agent, target, scope, receive, send)
        return await Exchange(self._agent, scope, receive, send).run(target)


class Exchange:
    """One request on its way to the agent, and its answer on the way back."""

    def __init__(self, agent: AgentClient, scope: Scope, receive: Receive, send: Send) -> None:
        self._agent = agent
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body_read = asyncio.Event()
        self._refusal: SkerryError | None = None
        self._answering = False

    async def run(self, target: str, *, posting: bytes | None = None) -> None:
        """Until the answer is through, or the caller is gone. `posting`: to ask with this in place of the caller's
        own request, which has no body."""
        relay = asyncio.ensure_future(self._relay(target, posting))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((relay, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not relay.done():
                relay.cancel()  # closes the connection to the agent, which ends what it does for this request
        try:
            await relay
        except asyncio.CancelledError:
            pass
        except (SkerryError, ClientGone, aiohttp.ClientError, OSError) as error:
            await self._answer_error(error)

    async def _answer_error(self, error: Exception) -> None:
        if self._answering or isinstance(error, ClientGone):
            return  # too late for a status: the answer stays unfinished, and the server breaks the connection off
        found = self._refusal or (error if isinstance(error, SkerryError) else translate(error))
        send = self._send if self._body_read.is_set() else held_open(self._receive, self._send)
        headers = {} if self._body_read.is_set() else {"connection": "close"}
        await error_response(found, headers)(self._scope, self._receive, send)

    async def _relay(self, target: str, posting: bytes | None) -> None:
        headers = {key.decode(): value.decode("latin-1") for key, value in self._scope["headers"] if key in PASSED_ON}
        method, data = self._scope["method"], await self._data()
        if posting is not None:
            method, data = "POST", posting
        async with self._agent.request(method, target, headers, data) as answer:
            await self._pass_back(answer)

    async def _pass_back(self, answer: aiohttp.ClientResponse) -> None:
        headers = [
            (key.lower().encode(), value.encode("latin-1"))
            for key, value in answer.headers.items()
            if key.lower() in PASSED_BACK
        ]
        send = self._send
        if not self._body_read.is_set():  # the agent refuses before it has read everything
            headers.append((b"connection", b"close"))
            send = held_open(self._receive, send)
        self._answering = True
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        content = answer.content
        more = True
        while more:
            chunk = await content.readany()
            more = bool(chunk) and not content.at_eof()
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _data(self) -> bytes | AsyncIterator[bytes] | None:
        """Mostly the body is one small message; then it need not be streamed."""
        if self._scope["method"] in ("GET", "HEAD"):
            self._body_read.set()
            return None
        first = await self._receive()
        if first["type"] == "http.disconnect":
            raise ClientGone
        if first.get("more_body", False):
            return self._chunks(first)
        self._body_read.set()
        return first.get("body", b"")

    async def _chunks(self, message: Message) -> AsyncIterator[bytes]:
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            if chunk := message.get("body", b""):
                yield chunk
            if not message.get("more_body", False):
                self._body_read.set()
                return
            try:
                message = await self._receive()
            except SkerryError as error:  # the body is over its limit; aiohttp wraps what is raised here
                self._refusal = error
                raise

    async def _gone(self) -> None:
        """Until the caller leaves. While the body comes, whoever reads it notices."""
        await self._body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
