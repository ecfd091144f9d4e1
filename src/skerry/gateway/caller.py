"""One caller's connection: reads its requests one after the other, lets each have its exchange, closes what stalls.

A plain event-loop protocol for the same reason as the sandbox's side of it: a body, an event or a WebSocket message
costs one callback and one write. A head that came before, byte for byte, is not parsed again: programs that ask models
send the same one over and over, and reading it costs as much as all the rest of a short request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol, cast

import httptools

from skerry.errors import Invalid, LimitReached, SkerryError, TooLarge
from skerry.gateway.answers import reason_of, refusal
from skerry.gateway.guest import Guest
from skerry.gateway.request import HEAD_BYTES_MAX, HEADERS_MAX, Headers, Request

TICK_S = 0.5
"""How often connections are looked at for what stalls: one look at all is cheaper than a timer for each request."""
HEAD_TICKS_MAX = 40
"""20 s for the whole head of a request, and the TLS handshake before it: longer takes only who means to."""
IDLE_TICKS_MAX = 150
"""75 s between two requests on one connection."""
BODY_TICKS_MAX = 600
"""300 s for the body of a request to a model, which is held until it is whole."""
PIPELINED_MAX = 32
"""Requests sent ahead on one connection, before the first is answered."""
LINGER_S = 1.0
"""A caller that is still sending when it has its answer reads it only if the connection stays for a moment."""
TOO_LONG = 431
_END = b"\r\n\r\n"


class Exchange(Protocol):
    """One request and its answer, as the connection that it came on sees it. It says `ended` when it is over."""

    keeps: bool
    """Whether the connection may be used again."""
    is_tunnel: bool
    is_upgrade: bool
    collects: bool
    """Nothing is done before all of it has come."""

    @property
    def complete(self) -> bool:
        """Whether all of the request has come."""
        ...

    def begin(self) -> None:
        """It is its turn."""
        ...

    def cancel(self) -> None:
        """The caller has left."""
        ...

    def on_body(self, part: bytes) -> None: ...
    def fail(self, error: SkerryError) -> None: ...
    def on_caller_full(self, full: bool) -> None: ...


class Known(Protocol):
    """A head that came before."""

    length: int
    """Of the body that follows."""


class Owner(Protocol):
    """The gateway, as its connections see it."""

    is_draining: bool
    tick: int

    def came(self, caller: Caller) -> bool:
        """Whether there is room for it."""
        ...

    def left(self, caller: Caller) -> None: ...
    def exchange(self, caller: Caller, request: Request, head: bytes | None) -> Exchange:
        """`head`: the bytes it was read from, where they came in one piece."""
        ...

    def known(self, head: bytes, /) -> Known | None: ...
    def exchange_again(self, caller: Caller, head: Known) -> Exchange:
        """For a head that is known. Its body is told by `on_body`, of `head.length` bytes altogether."""
        ...

    def failed(self, error: BaseException) -> None: ...


class Caller(asyncio.Protocol):
    def __init__(self, owner: Owner, scheme: str) -> None:
        self.scheme = scheme
        self.client = ""
        self.due = 0
        """Tick at which it is closed; 0: none."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._reading: Request | None = None
        """Its head is complete; its body may still come."""
        self._waiting: deque[Exchange | SkerryError] = deque()
        """In order; an error ends the connection when it is its turn."""
        self._now: Exchange | None = None
        self._holds: set[str] = set()
        self._guest: Guest | None = None
        """At the other end of a tunnel."""
        self._early: list[bytes] = []
        """Sent by a WebSocket's caller before the sandbox has agreed to one."""
        self._full = False
        self._deaf = False
        """Nothing that comes is looked at any more."""
        self._parsing = False
        """In the middle of a request, as the parser sees it."""
        self._raw: bytes | None = None
        """The head that is being parsed, where it came in one piece."""
        self._left = 0
        """Bytes that still come of the body after a head that was known."""
        self._fresh()

    def _fresh(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._exchange: Exchange | None = None

    # Asked by the exchange

    @property
    def is_draining(self) -> bool:
        return self._owner.is_draining

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def hold(self, reason: str) -> None:
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds.add(reason)

    def let_go(self, reason: str) -> None:
        if reason not in self._holds:
            return
        self._holds.remove(reason)
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def become_tunnel(self, guest: Guest) -> None:
        self._guest = guest
        early, self._early = self._early, []
        for data in early:
            guest.send_raw(data)
        self.let_go("early")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def failed(self, error: BaseException) -> None:
        """A defect of ours: nothing on this connection can be trusted."""
        self._owner.failed(error)
        self.abort()

    def ended(self, exchange: Exchange) -> None:
        """The answer has been written, or there is none to come."""
        if self._now is not exchange:
            return
        self._now = None
        if self._transport is None:
            return
        if exchange.is_tunnel or not exchange.keeps:
            self._finish(exchange)
        elif self._waiting:
            self._turn()
        elif self._owner.is_draining:
            self._transport.close()
        elif self._reading is None and not self._deaf:
            self.due = self._owner.tick + IDLE_TICKS_MAX

    # Asked by the gateway

    def drain(self) -> None:
        """Close if nothing goes on; else the answer under way is the last."""
        if self._now is None and not self._waiting and not self._parsing and self._transport is not None:
            self._transport.close()

    def look(self, tick: int) -> None:
        if 0 < self.due <= tick:
            self._close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else ""
        if not self._owner.came(self):
            self._deaf = True
            self._say(LimitReached("the gateway has as many connections as it may; try again", retry_after_s=5), 503)
            return
        self.due = self._owner.tick + HEAD_TICKS_MAX

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._guest is not None:
            self._guest.close()
        now, self._now = self._now, None
        if now is not None:
            now.cancel()
        self._owner.left(self)

    def pause_writing(self) -> None:
        self._full = True
        if self._now is not None:
            self._now.on_caller_full(True)

    def resume_writing(self) -> None:
        self._full = False
        if self._now is not None:
            self._now.on_caller_full(False)
        else:
            self._turn()

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._take(data)
        elif self._parsing or self._now is not None or self._waiting:
            if self._guest is not None:
                self._guest.send_raw(data)
            elif self._early or self._deaf:
                self._early_data(data)
            else:
                self._parse(data)
        elif not self._deaf:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Nothing goes on here: this is the start of a request."""
        end = data.find(_END) + 4
        if end > 4:
            head = data[:end]
            known = self._owner.known(head)
            if known is not None:
                self._again(known, data, end)
                return
            # Lines that are empty before a request are skipped by the parser: then this is not what it reads as one.
            self._raw = head if head[:1].isalpha() else None
        self._parse(data)

    def _again(self, known: Known, data: bytes, end: int) -> None:
        exchange = self._exchange = self._now = self._owner.exchange_again(self, known)
        self._left = known.length
        self.due = self._owner.tick + BODY_TICKS_MAX if known.length > len(data) - end else 0
        if known.length:
            exchange.begin()
            if len(data) > end:
                self._take(data[end:])
        else:
            exchange.begin()
            if len(data) > end:
                self.data_received(data[end:])

    def _take(self, data: bytes) -> None:
        """Of a body whose length is known."""
        left = self._left - len(data)
        if left >= 0:
            self._left = left
            if not left:
                self.due = 0
            if self._exchange is not None and not self._deaf:
                self._exchange.on_body(data)
            return
        body, rest = data[:left], data[left:]
        self._left = self.due = 0
        if self._exchange is not None and not self._deaf:
            self._exchange.on_body(body)
        self.data_received(rest)

    def _early_data(self, data: bytes) -> None:
        if not self._deaf and data:
            self._early.append(data)
            self.hold("early")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._exchange is not None and self._exchange.is_upgrade:
                self._early.append(b"")  # from here on it is not HTTP
                self._early_data(rest)
                return
            # Another protocol than WebSocket is not offered: the request is one like any other, and what follows too.
            self._parser = httptools.HttpRequestParser(self)
            if rest:
                self._parse(rest)
        except httptools.HttpParserError as error:
            # What follows `Connection: close` is an error to the parser; the request before it is still answered.
            self._end_with(Invalid("the request is not HTTP as it is spoken here", because=str(error)))

    # The parser's side

    def on_message_begin(self) -> None:
        self._parsing = True
        self._fresh()
        self.due = self._owner.tick + HEAD_TICKS_MAX

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count(part)

    def on_header(self, name: bytes, found: bytes) -> None:
        if self._exchange is not None:  # trailers are not passed on
            return
        self._headers.append((name, found))
        self._count(name + found)

    def _count(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes > HEAD_BYTES_MAX or len(self._headers) > HEADERS_MAX:
            most = f"{HEAD_BYTES_MAX // 1024} KiB and {HEADERS_MAX} lines"
            self._end_with(TooLarge(f"the head of the request is larger than {most}, the most that is read"))

    def on_headers_complete(self) -> None:
        raw, self._raw = self._raw, None
        if self._deaf:
            return
        self.due = 0
        parser = self._parser
        try:
            request = Request(
                parser.get_method(),
                self._target,
                parser.get_http_version(),
                self._headers,
                upgrades=bool(parser.should_upgrade()),
            )
        except SkerryError as error:
            self._end_with(error)
            return
        self._reading = request
        self._exchange = self._owner.exchange(self, request, raw)
        if self._exchange.collects and not self._exchange.complete:
            self.due = self._owner.tick + BODY_TICKS_MAX
        self._waiting.append(self._exchange)
        if len(self._waiting) > PIPELINED_MAX:
            self._end_with(Invalid(f"at most {PIPELINED_MAX} requests may be sent ahead of their answers"))
        if len(self._waiting) > 1:
            self.hold("queue")
        self._turn()

    def on_body(self, part: bytes) -> None:
        if self._exchange is not None and not self._deaf:
            self._exchange.on_body(part)

    def on_message_complete(self) -> None:
        self._parsing = False
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.finish()
        if not self._deaf:
            self.due = self._owner.tick + IDLE_TICKS_MAX if self._now is None and not self._waiting else 0

    # One after the other

    def _turn(self) -> None:
        # A caller that sends ahead and reads nothing would have every answer kept here.
        if self._now is not None or not self._waiting or self._full or self._transport is None:
            return
        found = self._waiting.popleft()
        if len(self._waiting) < 2:
            self.let_go("queue")
        if isinstance(found, SkerryError):
            self._say(found, TOO_LONG if isinstance(found, TooLarge) else None)
            return
        self._now = found
        found.begin()

    def _finish(self, exchange: Exchange) -> None:
        self._waiting.clear()
        self._deaf = True
        if self._transport is None:
            return
        if exchange.is_tunnel or exchange.complete:
            self._transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Read and forget what still comes: a connection closed on it would be reset, and the answer lost with it."""
        self._deaf = True
        for reason in list(self._holds):
            self.let_go(reason)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(LINGER_S, self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end_with(self, error: SkerryError) -> None:
        """Nothing that follows can be read: answer what came before, then this, then close."""
        if self._deaf:
            return
        self._deaf = True
        self.due = 0
        if self._reading is not None and self._exchange is not None:
            self._exchange.fail(error)  # in the middle of its body, which will never be whole
            return
        self._waiting.append(error)
        self._turn()

    def _say(self, error: SkerryError, status: int | None) -> None:
        if self._transport is None:
            return
        status, lines, body = refusal(error, self._headers, status=status)
        lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
        self.write(b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason_of(status)), *lines]) + b"\r\n\r\n" + body)
        self._linger()
