"""One connection to a port of a sandbox: the agent's line first, then HTTP, whose answers are read as strictly as any.

A plain event-loop protocol: data goes from one socket's callback to the other socket's write without a task between.
What a sandbox says is not trusted: its answer is parsed, and written anew by whoever listens here.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol, cast

import httptools

from skerry.errors import SkerryError, Unavailable, from_wire
from skerry.gateway.request import HEAD_BYTES_MAX, HEADERS_MAX, Chunked, Headers, Request, value

BODILESS = frozenset({204, 304})
_GREETING_BYTES_MAX = 8192

Length = int | Chunked | None
"""None: until the connection ends."""


class Listener(Protocol):
    """Who is told of the answer."""

    def on_interim(self, status: int, headers: Headers) -> None: ...
    def on_head(self, status: int, reason: bytes, headers: Headers, length: Length) -> None: ...
    def on_data(self, data: bytes) -> None: ...
    def on_pause(self) -> None:
        """All that had come has been told."""
        ...

    def on_end(self) -> None: ...
    def on_tunnel(self, headers: Headers, first: bytes) -> None: ...
    def on_broken(self, error: SkerryError) -> None: ...
    def on_full(self, full: bool) -> None:
        """The sandbox reads more slowly than it is sent to, or no longer does."""
        ...


class Asleep(Exception):
    """It sleeps, and the agent was asked not to wake it."""


class Guest(asyncio.Protocol):
    def __init__(self, *, greeted: bool = False) -> None:
        """`greeted`: it leads there directly, without the agent and its line."""
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the agent has put us through."""
        self._transport: asyncio.Transport | None = None
        self._greeting = b""
        self._greeted = greeted
        self._listener: Listener | None = None
        self._request: Request | None = None
        self._parser: Any = None
        self._tunnel = False
        self._sent_all = False
        self.lost = False
        self._fresh()

    def _fresh(self) -> None:
        """Before each answer, a preliminary one too."""
        self._status = 0
        self._reason = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_body = False
        self._length: Length = None
        self._over = False
        self._keeps = False

    # Asked by the exchange

    def ask(self, sandbox_id: str, port: int, *, wake: bool, counts: bool) -> None:
        line = {"sandbox_id": sandbox_id, "port": port, "by": f"http {port}", "wake": wake, "counts": counts}
        self._write(json.dumps(line).encode() + b"\n")

    def begin(self, head: bytes, request: Request, listener: Listener) -> None:
        """Send a request, its body as it comes."""
        self._fresh()
        self._request, self._listener, self._tunnel, self._sent_all = request, listener, False, False
        self._parser = httptools.HttpResponseParser(self)
        self._write(head)
        request.take_body(self._send_chunk if isinstance(request.length, Chunked) else self._send_part)

    def _send_chunk(self, part: bytes | None) -> None:
        if part is None:
            self._write(b"0\r\n\r\n")
            self._sent_all = True
        else:
            self._write(b"%x\r\n%b\r\n" % (len(part), part))

    def _send_part(self, part: bytes | None) -> None:
        if part is None:
            self._sent_all = True
        else:
            self._write(part)

    def send_raw(self, data: bytes) -> None:
        """Once the connection is a tunnel."""
        self._write(data)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def status(self) -> int:
        """Of the last answer; 0: none has begun."""
        return self._status

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: everything sent, everything read, and both sides willing."""
        return self._over and self._keeps and self._sent_all and not self.lost and not self._tunnel

    def release(self) -> None:
        """Nobody listens any more."""
        self._listener = None

    def abort(self) -> None:
        self.release()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """After what was written has gone out."""
        self.release()
        if self._transport is not None:
            self._transport.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.connected.done():
            if self._greeted:
                self.connected.cancel()
            else:
                error = Unavailable("the agent of this machine hung up; try again", retry_after_s=1)
                self.connected.set_exception(error)
        self._ended()

    def eof_received(self) -> bool:
        self._ended()
        return False

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_full(True)

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_full(False)

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            data = self._greet(data)
            if not data:
                return
        if self._listener is None:  # it speaks without being asked
            self.abort()
            return
        self._read(self._listener, data)

    def _read(self, listener: Listener, data: bytes) -> None:
        if self._tunnel:
            listener.on_data(data)
        else:
            self._parse(data)
        if self._listener is listener:
            listener.on_pause()

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._over:
                self._break("the program in the sandbox answered what is not HTTP", because=str(error))
            self._keeps = False

    def _greet(self, data: bytes) -> bytes:
        self._greeting += data
        line, newline, rest = self._greeting.partition(b"\n")
        if not newline:
            if len(line) > _GREETING_BYTES_MAX:
                self.abort()
            return b""
        self._greeted, self._greeting = True, b""
        if self.connected.done():
            return b""
        told = json.loads(line)
        if told.get("asleep"):
            self.connected.set_exception(Asleep())
        elif "error" in told:
            self.connected.set_exception(from_wire(told))
        else:
            self.connected.set_result(None)
        return rest

    def _ended(self) -> None:
        if self._listener is None or self._over:
            return
        if self._tunnel or (self._in_body and self._length is None):
            self._finish()
        else:
            self._break("the program in the sandbox closed the connection before it had answered", because="eof")

    def _break(self, say: str, *, because: str) -> None:
        self._over, self._keeps = True, False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_broken(Unavailable(say, because=because))

    def _finish(self) -> None:
        self._over = True
        if self._listener is not None:
            self._listener.on_end()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def _upgrade(self, first: bytes) -> None:
        assert self._request is not None
        if self._status != 101 or not self._request.upgrades or self._listener is None:
            self._break("the program in the sandbox changed to a protocol nobody asked for", because="upgrade")
            return
        self._tunnel = True
        self._listener.on_tunnel(self._headers, first)

    # The parser's side

    def on_message_begin(self) -> None:
        if self._over:
            self._keeps = False  # more than one answer to one request: nothing it says next can be trusted
        else:
            self._fresh()

    def on_status(self, reason: bytes) -> None:
        self._reason += reason
        self._count(reason)

    def on_header(self, name: bytes, found: bytes) -> None:
        if self._over or self._in_body:  # trailers are not passed on
            return
        self._headers.append((name, found))
        self._count(name + found)

    def _count(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if not self._over and (self._head_bytes > HEAD_BYTES_MAX or len(self._headers) > HEADERS_MAX):
            self._break("the program in the sandbox answered with too long a head", because="head")
            self.abort()

    def on_headers_complete(self) -> None:
        if self._over or self._listener is None:
            return
        assert self._request is not None
        self._status = self._parser.get_status_code()
        if self._status < 200:
            if self._status != 101:
                self._listener.on_interim(self._status, self._headers)
            return
        self._in_body = True
        self._keeps = self._parser.should_keep_alive()
        self._length = self._body_length()
        self._listener.on_head(self._status, self._reason, self._headers, self._length)
        if self._request.method == b"HEAD":
            # The parser waits for a body that never comes: it cannot be told what was asked.
            self._keeps = False
            self._finish()

    def _body_length(self) -> Length:
        assert self._request is not None
        length = value(self._headers, b"content-length")
        if self._status in BODILESS:
            return 0
        coding = value(self._headers, b"transfer-encoding")
        if coding is not None:
            if coding.lower() == b"chunked":
                return Chunked.BODY
            self._keeps = False
            return None
        # The parser has refused what is no number.
        return int(length) if length is not None else None

    def on_body(self, data: bytes) -> None:
        if self._listener is not None and not self._over:
            self._listener.on_data(data)

    def on_message_complete(self) -> None:
        if self._over or self._status < 200:
            return
        self._finish()
