"""One connection to a replica: a request at a time, whose answer is cut into its head and its parts.

A plain event-loop protocol: a part of a stream is one callback here and one write to the caller.
"""

from __future__ import annotations

import asyncio
import json
from typing import Protocol, cast

from skerry.errors import SkerryError, from_wire
from skerry.gateway.request import HEAD_BYTES_MAX
from skerry.gateway.services.answer import CHUNKED, UNTIL_CLOSED, AnswerHead, AnswerHeads
from skerry.gateway.services.chunks import Chunks

_GREETING_BYTES_MAX = 8192
_END = b"\r\n\r\n"


class Listener(Protocol):
    """The request that the connection works for."""

    plain: bool
    """It cannot take chunks."""

    def on_head(self, head: AnswerHead, data: bytes, over: bool) -> None:
        """The answer began, with the first of its body; `over`: it is all there is."""
        ...

    def on_part(self, data: bytes, over: bool) -> None: ...
    def on_broken(self, because: str) -> None:
        """No more will come."""
        ...

    def on_full(self, full: bool) -> None: ...


class Home(Protocol):
    """Where a connection is kept while nobody uses it."""

    def back(self, upstream: Upstream) -> None: ...
    def lost(self, upstream: Upstream) -> None: ...


class Upstream(asyncio.Protocol):
    __slots__ = (
        "_answer",
        "_buffer",
        "_chunks",
        "_greeting",
        "_heads",
        "_left",
        "_listener",
        "_transport",
        "home",
        "used",
    )

    def __init__(self, home: Home, heads: AnswerHeads, *, greets: bool = False) -> None:
        """`greets`: a line of the agent's comes first, which says whether it has put us through."""
        self.home = home
        self.used = 0
        """Requests that it has carried."""
        self._heads = heads
        self._greeting: asyncio.Future[None] | None = asyncio.get_running_loop().create_future() if greets else None
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._answer: AnswerHead | None = None
        self._buffer = b""
        self._left = 0
        self._chunks: Chunks | None = None

    def send(self, listener: Listener, data: bytes) -> None:
        self._listener = listener
        self._answer = None
        self._buffer = b""
        self.used += 1
        if self._transport is not None:
            self._transport.write(data)
        else:
            self._break("it was closed")

    def hand_over(self, listener: Listener) -> None:
        """Another is told of the rest of the answer."""
        if self._listener is not None:
            self._listener = listener

    async def put_through(self, sandbox_id: str, port: int, timeout_s: float) -> None:
        """Ask the agent for a port of a sandbox, which it wakes. Raises SkerryError, TimeoutError."""
        assert self._transport is not None
        assert self._greeting is not None
        line = {"sandbox_id": sandbox_id, "port": port, "by": f"http {port}", "wake": True, "counts": True}
        self._transport.write(json.dumps(line).encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            await self._greeting

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        self._listener = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError("the agent hung up"))
        self._ended("it closed the connection" if exc is None else repr(exc))
        self.home.lost(self)

    def eof_received(self) -> bool:
        self._ended("it closed the connection")
        return False

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_full(True)

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_full(False)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if self._greeting is not None and not self._greeting.done():
            self._greet(data)
        elif listener is None:  # it speaks without being asked
            self.abort()
        elif self._answer is None:
            self._begin(listener, data)
        elif self._chunks is not None:
            chunks = self._chunks
            try:
                data = chunks.feed(data)
            except ValueError as error:
                self._break(str(error))
                return
            if chunks.over:
                self._finish(self._answer.keeps and not chunks.rest)
                listener.on_part(data, True)
            else:
                listener.on_part(data, False)
        elif self._answer.length == UNTIL_CLOSED:
            listener.on_part(data, False)
        else:
            self._counted(listener, data)

    def _counted(self, listener: Listener, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            listener.on_part(data, False)
            return
        assert self._answer is not None
        self._finish(self._answer.keeps and left == 0)
        listener.on_part(data[:left] if left else data, True)

    def _begin(self, listener: Listener, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(_END) + 4
        if end < 4:
            self._buffer = data
            if len(data) > HEAD_BYTES_MAX:
                self._break("too long a head")
            return
        try:
            answer = self._heads.read(data[:end])
            if answer.status < 200:
                if answer.status == 101:
                    raise ValueError("it changes to a protocol nobody asked for")
                self._buffer = b""
                if len(data) > end:
                    self._begin(listener, data[end:])
                return
            self._body(listener, answer, data[end:])
        except ValueError as error:
            self._break(str(error))

    def _body(self, listener: Listener, answer: AnswerHead, data: bytes) -> None:
        self._answer = answer
        self._buffer = b""
        self._chunks = None
        length = answer.length
        over, clean = False, True
        if length >= 0:
            self._left = length - len(data)
            over, clean = self._left <= 0, self._left >= 0
            if not clean:
                data = data[:length]
        elif length == CHUNKED:
            self._chunks = chunks = Chunks(plain=listener.plain)
            if data:
                data = chunks.feed(data)
                over, clean = chunks.over, not chunks.rest
        if over:
            self._finish(answer.keeps and clean)
        listener.on_head(answer, data, over)

    def _finish(self, keeps: bool) -> None:
        """The answer is whole. Given back before it is told, so that the next request finds it."""
        self._listener = None
        self._chunks = None
        if keeps:
            self.home.back(self)
        elif self._transport is not None:
            self._transport.close()

    def _ended(self, because: str) -> None:
        listener = self._listener
        if listener is None:
            return
        if self._answer is not None and self._answer.length == UNTIL_CLOSED:
            self._finish(False)
            listener.on_part(b"", True)
        else:
            self._break(because)

    def _break(self, because: str) -> None:
        listener, self._listener = self._listener, None
        if self._transport is not None:
            self._transport.abort()
        if listener is not None:
            listener.on_broken(because)

    def _greet(self, data: bytes) -> None:
        self._buffer += data
        line, newline, _ = self._buffer.partition(b"\n")
        assert self._greeting is not None
        if not newline:
            if len(line) > _GREETING_BYTES_MAX:
                self.abort()
            return
        self._buffer = b""
        try:
            told = json.loads(line)
        except ValueError:
            told = {"error": {"message": "the agent was not understood"}}
        if "error" in told:
            error: SkerryError = from_wire(told)
            self._greeting.set_exception(error)
        else:
            self._greeting.set_result(None)
