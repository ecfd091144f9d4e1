"""A small HTTP/1.1 server of the standard library alone, for servers of ours that run inside a replica."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 64 << 20
BEHIND_BYTES_MAX = 16 << 20
"""A caller who has not read so much is given up."""
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large",
           429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


def members(value: Any) -> dict[str, Any]:
    """Of an object; none where it is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Of a list; none where it is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def event(value: Any, name: str = "") -> bytes:
    """A server-sent event."""
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """By names in small letters."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """Raises Refused where it is no object."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Refused(400, "the body is not a JSON object")
        return cast("dict[str, Any]", value)


class Refused(Exception):
    """What is answered instead, in OpenAI's form."""

    def __init__(
        self, status: int, say: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(say)
        self.status, self.say, self.param, self.headers = status, say, param, headers or {}

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.say, "type": kind, "param": self.param, "code": self.status}}


@dataclass(slots=True)
class Answer:
    """Either `json` or `text` once, or `start`, any number of `send`, and `end`."""

    _transport: asyncio.Transport
    keep: bool = True
    begun: bool = False
    done: bool = False
    extra: dict[str, str] = field(default_factory=dict[str, str])

    def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self._whole(data, "application/json", status, headers)

    def text(self, value: str, kind: str = "text/plain; charset=utf-8", status: int = 200) -> None:
        self._whole(value.encode(), kind, status, None)

    def start(self, kind: str = "text/event-stream; charset=utf-8", status: int = 200) -> None:
        self._head(status, {"Content-Type": kind, "Cache-Control": "no-cache", "Transfer-Encoding": "chunked"})

    def send(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size() > BEHIND_BYTES_MAX:
            self.abort()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, value: Any) -> None:
        """One of a stream of server-sent events."""
        self.send(event(value))

    def end(self) -> None:
        self._transport.write(b"0\r\n\r\n")
        self.done = True

    def abort(self) -> None:
        """Break off, as a program that dies does."""
        self.keep, self.done = False, True
        self._transport.abort()

    def _whole(self, data: bytes, kind: str, status: int, headers: dict[str, str] | None) -> None:
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})})
        self._transport.write(data)
        self.done = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.begun = True
        headers = {**headers, **self.extra}
        if not self.keep:
            headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._transport.write(f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode())


Handler = Callable[[Request, Answer], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One request after the other; what it is doing is cancelled when its caller goes."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self.abort()
        elif self._task is None:
            self._next()

    def _next(self) -> None:
        transport = self._transport
        assert transport is not None
        try:
            request = self._parse()
        except Refused as refused:
            Answer(transport, keep=False).json(refused.body, refused.status)
            transport.close()
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request, transport))

    async def _serve(self, request: Request, transport: asyncio.Transport) -> None:
        answer = Answer(transport, keep=request.headers.get("connection", "").lower() != "close")
        try:
            await self._handler(request, answer)
        except Refused as refused:
            if answer.begun:
                answer.abort()
            else:
                answer.json(refused.body, refused.status, refused.headers)
        if not answer.done:
            answer.abort()
        self._task = None
        if not answer.keep:
            transport.close()
        elif self._buffer:
            self._next()

    def _parse(self) -> Request | None:
        """The next request, if it is here as a whole."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES_MAX:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise Refused(400, f"the head is longer than {HEAD_BYTES_MAX} bytes")
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        pieces = first.split(" ")
        if len(pieces) != 3 or pieces[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refused(400, "this is not HTTP/1.1")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding"):
            body_end, body = self._chunks(end + 4)
        else:
            size = headers.get("content-length", "0")
            if not size.isdecimal() or int(size) > BODY_BYTES_MAX:
                raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes")
            body_end = end + 4 + int(size)
            body = bytes(self._buffer[end + 4 : body_end]) if len(self._buffer) >= body_end else None
        if body is None:
            return None
        del self._buffer[:body_end]
        target = urlsplit(pieces[1])
        query = {name: values[-1] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
        return Request(pieces[0], unquote(target.path), query, headers, body)

    def _chunks(self, at: int) -> tuple[int, bytes | None]:
        body = bytearray()
        while True:
            line = self._buffer.find(b"\r\n", at)
            if line < 0:
                return at, None
            try:
                size = int(self._buffer[at:line].split(b";")[0], 16)
            except ValueError:
                raise Refused(400, "a chunk without its size") from None
            at = line + 2 + size + 2
            if len(self._buffer) < at:
                return at, None
            if size == 0:
                return at, bytes(body)
            body += self._buffer[line + 2 : at - 2]


class Server:
    """May stop listening for a while and go on, as a program that is started again does."""

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self._handler = handler
        self._host = host
        self.port = port
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Where the port is 0, one that is free."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._handler, self._connections),
            self._host,
            self.port,
            reuse_address=True,
            backlog=1024,
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """And break off what is connected."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for connection in list(self._connections):
                connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await server.wait_closed()
