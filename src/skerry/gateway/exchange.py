"""One request of a caller and the answer it gets: from the door, through the sandbox, or as a refusal."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Protocol, TypeVar

from skerry.errors import DeadlineExceeded, SkerryError, TooLarge, Unavailable
from skerry.gateway import headers as passed
from skerry.gateway.answers import reason_of, refusal
from skerry.gateway.guest import BODILESS, Guest, Length
from skerry.gateway.request import Chunked, Headers, Request, too_large, value
from skerry.telemetry import Log

ANSWER_S_MAX = 900.0
"""From the request until the sandbox begins to answer. After that it may be silent for as long as it likes."""
REPEATABLE = (b"GET", b"HEAD", b"OPTIONS")
BROKEN = 502


class Line(Protocol):
    """The caller's connection, as an exchange sees it."""

    client: str
    scheme: str

    @property
    def is_draining(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    def hold(self, reason: str) -> None:
        """Do not read from the caller until it is let go."""
        ...

    def let_go(self, reason: str) -> None: ...
    def become_tunnel(self, guest: Guest) -> None: ...
    def abort(self) -> None: ...
    def ended(self, exchange: Any) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class Visited(Protocol):
    """Whom it was let in to."""

    @property
    def cookie(self) -> tuple[str, int] | None:
        """Token and expiry to hand on."""
        ...

    def left(self) -> None:
        """The request is over, and so is the tunnel where it became one."""
        ...


V = TypeVar("V", bound=Visited)
W = TypeVar("W", bound=Visited, covariant=True)
X = TypeVar("X", bound=Visited, contravariant=True)


class Door(Protocol[W]):
    """Who may come in."""

    def now_s(self) -> float: ...
    async def admit(self, request: Request) -> W: ...


class Guests(Protocol[X]):
    """Connections to where it leads."""

    def used(self, visit: X) -> Guest | None: ...
    async def open(self, visit: X, client: str) -> Guest: ...
    def keep(self, visit: X, guest: Guest) -> None: ...


class Exchange(Generic[V]):
    collects = False

    def __init__(
        self, line: Line, request: Request, door: Door[V], guests: Guests[V], log: Log, body_bytes_max: int
    ) -> None:
        self._line = line
        self._request = request
        self._door = door
        self._failure: SkerryError | None = None
        self._guests = guests
        self._log = log
        self._body_bytes_max = body_bytes_max
        self._guest: Guest | None = None
        self._visit: V | None = None
        self._over: asyncio.Future[SkerryError | None] = asyncio.get_running_loop().create_future()
        """Done at the end of the answer; with an error when there is none."""
        self._body_bytes = 0
        self._head_sent = False
        self._interim_sent = False
        self._chunked = False
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        """Of the answer: head and first bytes mostly come together, and leave so."""
        self.is_upgrade = request.upgrades
        self.is_tunnel = False
        # What follows the head of a WebSocket is not HTTP, whatever the sandbox answers to it.
        self.keeps = request.keeps and not request.upgrades
        """Whether the caller's connection may be used again."""

    @property
    def complete(self) -> bool:
        return self._request.complete

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def cancel(self) -> None:
        """The caller has left."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._line.failed(error)
        self._line.ended(self)

    async def _run(self) -> None:
        """Until the caller has its answer."""
        try:
            self._check()
            self._visit = await self._door.admit(self._request)
            if not self._redirects(self._visit):
                await self._pass_on(self._visit)
        except SkerryError as error:
            self._refuse(error, None)
        finally:
            self._put_back()
            if self._visit is not None:
                self._visit.left()

    def _check(self) -> None:
        """Raises what is wrong with the request itself."""
        if self._failure is not None:
            raise self._failure
        self._request.check_length(self._body_bytes_max)

    async def _pass_on(self, visit: V) -> None:
        head = passed.to_guest(self._request, client=self._line.client, scheme=self._line.scheme)
        again = self._request.method in REPEATABLE and self._request.length == 0 and not self._request.upgrades
        self._guest = self._guests.used(visit) if again else None
        if self._guest is not None:
            self._guest.begin(head, self._request, self)
            error = await self._answered()
            # Closed by the sandbox at the very moment we used it again; nothing of an answer has come.
            if error is None or self._head_sent or self._interim_sent or isinstance(error, DeadlineExceeded):
                return self._close_with(error)
            self._over = asyncio.get_running_loop().create_future()
        self._guest = await self._guests.open(visit, self._line.client)
        self._check()  # more of its body may have come while the sandbox was reached
        self._guest.begin(head, self._request, self)
        self._line.let_go("body")
        return self._close_with(await self._answered())

    async def _answered(self) -> SkerryError | None:
        # No timeout(): its task would be woken for every answer, and most come at once.
        timer = asyncio.get_running_loop().call_later(ANSWER_S_MAX, self._too_late)
        try:
            return await self._over
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        if not self._head_sent:
            self._end(DeadlineExceeded(f"the program in the sandbox did not answer in {ANSWER_S_MAX:g} s"))

    def _close_with(self, error: SkerryError | None) -> None:
        if error is None:
            return
        if self._head_sent:
            # Half an answer must not look like a whole one.
            self._line.abort()
        else:
            broken = isinstance(error, Unavailable) and error.retry_after_s is None
            self._refuse(error, BROKEN if broken else None)

    def _put_back(self) -> None:
        guest, self._guest = self._guest, None
        self._line.let_go("guest")
        if guest is None or self.is_tunnel:
            return
        guest.resume()
        if self._over.done() and not self._over.cancelled() and self._over.result() is None and self._visit is not None:
            self._guests.keep(self._visit, guest)
        else:
            guest.abort()

    # Answers of our own

    def _redirects(self, visit: V) -> bool:
        """A browser's address bar is cleared of the token, which would go on to other sites and into its history."""
        request = self._request
        accept = value(request.headers, b"accept") or b""
        if visit.cookie is None or request.method != b"GET" or request.upgrades or b"text/html" not in accept:
            return False
        target, _ = passed.split_target(request.target)
        # Whole, since a path such as //elsewhere would lead elsewhere.
        place = f"{self._line.scheme}://{request.host}".encode() + target
        self._answer(302, [b"Location: " + place, b"Cache-Control: no-store", *self._cookie_lines()], b"")
        return True

    def _refuse(self, error: SkerryError, status: int | None) -> None:
        if error.because is not None:
            self._log.info("refused", say=error.say, because=error.because)
        status, lines, body = refusal(error, self._request.headers, status=status)
        if isinstance(error, TooLarge):
            self.keeps = False
        self._answer(status, lines, body)

    def _answer(self, status: int, lines: list[bytes], body: bytes) -> None:
        lines = [*lines, b"Content-Length: %d" % len(body)]
        self._send_head(status, reason_of(status), lines)
        if self._request.method != b"HEAD":
            self._unsent.append(body)
        self.on_pause()

    def _cookie_lines(self) -> list[bytes]:
        if self._visit is None or self._visit.cookie is None:
            return []
        token, expires = self._visit.cookie
        secure = "; Secure" if self._line.scheme == "https" else ""
        lasts = max(1, expires - int(self._door.now_s()))
        text = f"{passed.COOKIE.decode()}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Lax{secure}"
        return [b"Set-Cookie: " + text.encode()]

    def _send_head(self, status: int, reason: bytes, lines: list[bytes]) -> None:
        self._head_sent = True
        # What the caller still sends of a body could be taken for its next request.
        self.keeps = self.keeps and self._request.complete and not self._line.is_draining
        if not self.keeps:
            lines = [*lines, b"Connection: close"]
        self._unsent.append(b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason), *lines]) + b"\r\n\r\n")

    # Told by the sandbox's connection

    def on_interim(self, status: int, headers: Headers) -> None:
        if self._request.v1_1:
            self._interim_sent = True
            lines = passed.to_caller(headers)
            self._line.write(b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason_of(status)), *lines]) + b"\r\n\r\n")

    def on_head(self, status: int, reason: bytes, headers: Headers, length: Length) -> None:
        lines = [*passed.to_caller(headers), *self._cookie_lines()]
        told = value(headers, b"content-length")
        if self._request.method == b"HEAD" or status == 304:
            if told is not None:
                lines.append(b"Content-Length: " + told)
        elif isinstance(length, int) and status not in BODILESS:
            lines.append(b"Content-Length: %d" % length)
        elif status not in BODILESS:
            self._chunked = self._request.v1_1
            if self._chunked:
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self.keeps = False  # its end is told by closing
        self._send_head(status, reason or reason_of(status), lines)

    def on_data(self, data: bytes) -> None:
        self._unsent.append(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def on_pause(self) -> None:
        if self._unsent:
            self._line.write(b"".join(self._unsent) if len(self._unsent) > 1 else self._unsent[0])
            self._unsent.clear()

    def on_end(self) -> None:
        if self._chunked:
            self._unsent.append(b"0\r\n\r\n")
        self.on_pause()
        self._end(None)

    def on_tunnel(self, headers: Headers, first: bytes) -> None:
        assert self._guest is not None
        self._head_sent = self.is_tunnel = True
        self.keeps = self._chunked = False
        lines = [*passed.to_caller(headers), *self._cookie_lines(), b"Connection: Upgrade", b"Upgrade: websocket"]
        self._line.write(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines]) + b"\r\n\r\n" + first)
        self._line.become_tunnel(self._guest)

    def on_broken(self, error: SkerryError) -> None:
        self._end(error)

    def on_full(self, full: bool) -> None:
        (self._line.hold if full else self._line.let_go)("guest")

    def _end(self, error: SkerryError | None) -> None:
        if not self._over.done():
            self._over.set_result(error)

    # Told by the caller's connection

    def on_body(self, part: bytes) -> None:
        """A part of the request's body."""
        if self._over.done():
            return
        self._body_bytes += len(part)
        if isinstance(self._request.length, Chunked) and self._body_bytes > self._body_bytes_max:
            self.fail(too_large(self._body_bytes_max))
            return
        self._request.feed(part)
        if not self._request.is_taken:
            self._line.hold("body")

    def fail(self, error: SkerryError) -> None:
        """The rest of the request is not to be read."""
        self.keeps = False
        self._failure = error
        self._end(error)

    def on_caller_full(self, full: bool) -> None:
        if self._guest is not None:
            (self._guest.pause if full else self._guest.resume)()
