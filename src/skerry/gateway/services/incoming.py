"""The side of a request to services that is the caller's: its body as it comes, and answers of the gateway's own."""

from __future__ import annotations

from typing import Any, Protocol

from skerry.errors import Invalid, SkerryError, TooLarge, Unavailable
from skerry.gateway.request import too_large
from skerry.gateway.services.head import Head
from skerry.gateway.services.refusal import refused

BODY_BYTES_MAX = 64 * 1024**2
"""It is held until there is a replica, and for as long as another may have to be asked."""
RETRY_S = 5.0
_END = b"\r\n"


class Line(Protocol):
    """The caller's connection."""

    client: str
    scheme: str

    @property
    def is_draining(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    def hold(self, reason: str) -> None: ...
    def let_go(self, reason: str) -> None: ...
    def abort(self) -> None: ...
    def ended(self, exchange: Any) -> None: ...


class Incoming:
    """Its body is collected until it is whole; then, and when it is its turn, it runs."""

    collects = True

    __slots__ = (
        "_begun",
        "_have",
        "_head_written",
        "_line",
        "_parts",
        "began_s",
        "complete",
        "head",
        "is_tunnel",
        "is_upgrade",
        "keeps",
        "over",
        "request_id",
        "status",
    )

    def __init__(self, line: Line, head: Head) -> None:
        self._line = line
        self.head = head
        self.keeps = head.keeps
        self.is_tunnel = self.is_upgrade = False
        self.complete = head.length == 0
        self.over = False
        self.request_id = b""
        self.status = 0
        self.began_s = 0.0
        self._begun = self._head_written = False
        self._parts: list[bytes] | None = None
        self._have = 0

    def _run(self) -> None:
        """All of it is here, and it is its turn."""
        raise NotImplementedError

    def _done(self, ok: bool | None) -> None:
        """`ok`: None where the caller has left."""
        raise NotImplementedError

    def _keep(self, count: int) -> bool:
        """So many bytes more of its body; False: there is no room for them."""
        raise NotImplementedError

    def _now_s(self) -> float:
        raise NotImplementedError

    def _more_lines(self) -> bytes:
        """Of heads of our own answers."""
        return b""

    # Told by the caller's connection

    def begin(self) -> None:
        self._begun = True
        self.began_s = self._now_s()
        if self.complete:
            self._run()
        elif self.head.length > BODY_BYTES_MAX:
            self._refuse(too_large(BODY_BYTES_MAX), None)

    def on_body(self, part: bytes) -> None:
        if self.over:
            return
        length = self.head.length
        if self._parts is None and len(part) == length:
            self._parts = [part]
            self.complete = True
            if self._begun:
                self._run()
            return
        if self._parts is None:
            self._parts = []
        self._parts.append(part)
        self._have += len(part)
        if self._have > BODY_BYTES_MAX:
            self._refuse(too_large(BODY_BYTES_MAX), None)
        elif not self._keep(len(part)):
            say = "the gateway holds as many bytes of requests as it may; try again"
            self.keeps = False
            self._refuse(Unavailable(say, retry_after_s=RETRY_S), None)
        elif self._have == length:
            self.on_whole()

    def on_whole(self) -> None:
        if self.over or self.complete:
            return
        self.complete = True
        if self._begun:
            self._run()

    def fail(self, error: SkerryError) -> None:
        """The rest of the request cannot be read."""
        self.keeps = False
        self._refuse(error, None)

    # Answers of the gateway itself

    def answer(self, status: int, kind: bytes, body: bytes) -> None:
        """Of the gateway itself."""
        self.status = status
        head = b"HTTP/1.1 %d OK\r\nContent-Type: %b\r\nCache-Control: no-store\r\nX-Request-Id: %b\r\n" % (
            status,
            kind,
            self.request_id,
        )
        self._write_own(head + b"Content-Length: %d\r\n" % len(body), body)
        self._done(ok=True)

    def _refuse(self, error: SkerryError, status: int | None) -> None:
        if self.over:
            return
        if isinstance(error, TooLarge | Invalid) and not self.complete:
            self.keeps = False
        more = b"X-Request-Id: %b\r\n" % self.request_id if self.request_id else b""
        more += self._more_lines()
        self.status, head, body = refused(error, status, more)
        self._write_own(head, body)
        self._done(ok=False)

    def _write_own(self, head: bytes, body: bytes) -> None:
        self.keeps = self.keeps and self.complete and not self._line.is_draining
        if not self.keeps:
            head += b"Connection: close\r\n"
        self._head_written = True
        self._line.write(head + _END + (b"" if self.head.method == b"HEAD" else body))
