"""The head of one request, accepted only in the one reading that nobody can take otherwise.

llhttp refuses what is not HTTP, two lengths, a length beside chunks, folded lines and bare line feeds. Refused here is
what it lets through and two servers could read differently. What is passed on is written anew from this, never copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from skerry.errors import Invalid, TooLarge
from skerry.model.amounts import format_size

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
TARGET_BYTES_MAX = 16 * 1024

Headers = list[tuple[bytes, bytes]]

_HOST = re.compile(rb"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?")
_FRAMING = (b"content-length", b"transfer-encoding")


class Chunked(Enum):
    BODY = "chunked"
    """The length of the body is not known ahead."""


class Request:
    """`length` is of the body: a number of bytes (0: none), or chunks."""

    __slots__ = (
        "_sink",
        "complete",
        "headers",
        "host",
        "keeps",
        "length",
        "method",
        "parts",
        "target",
        "upgrades",
        "v1_1",
    )

    def __init__(self, method: bytes, target: bytes, version: str, headers: Headers, *, upgrades: bool) -> None:
        """Raises Invalid."""
        self.method = method
        self.target = target
        self.headers = headers
        self.v1_1 = version == "1.1"
        _check_start(method, target, version)
        self.host = _host(headers)
        self.length: int | Chunked = _length(headers, self.v1_1)
        wanted = value(headers, b"upgrade") if upgrades else None
        self.upgrades = wanted is not None and wanted.lower() == b"websocket"
        if upgrades and self.length != 0:
            raise Invalid("a request that asks for another protocol may not have a body")
        if self.upgrades and (method != b"GET" or not self.v1_1):
            raise Invalid("a WebSocket begins with GET and HTTP/1.1")
        connection = b",".join(found for name, found in headers if name.lower() == b"connection").lower()
        # One of HTTP/1.0 is closed after its answer: few speak it, and so none is kept open by mistake.
        self.keeps = self.v1_1 and b"close" not in [word.strip() for word in connection.split(b",")]
        self.parts: list[bytes] = []
        """Of the body, while nobody takes it."""
        self.complete = False
        self._sink: Callable[[bytes | None], None] | None = None

    @property
    def is_taken(self) -> bool:
        return self._sink is not None

    def take_body(self, sink: Callable[[bytes | None], None]) -> None:
        """Each part goes there from now on, and None at the end."""
        self._sink = sink
        parts, self.parts = self.parts, []
        for part in parts:
            sink(part)
        if self.complete:
            sink(None)

    def feed(self, part: bytes) -> None:
        if self._sink is not None:
            self._sink(part)
        else:
            self.parts.append(part)

    def finish(self) -> None:
        self.complete = True
        if self._sink is not None:
            self._sink(None)

    def check_length(self, bytes_max: int) -> None:
        """Raises TooLarge for what is told ahead; chunks are counted as they come."""
        if isinstance(self.length, int) and self.length > bytes_max:
            raise too_large(bytes_max)


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {format_size(bytes_max)}, the most that is passed on (url_body_bytes_max)"
    )


def value(headers: Headers, name: bytes) -> bytes | None:
    """The first of that name; `name` is in lower case."""
    return next((found for key, found in headers if key.lower() == name), None)


def _check_start(method: bytes, target: bytes, version: str) -> None:
    if version not in ("1.0", "1.1"):
        raise Invalid("only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method == b"CONNECT":
        raise Invalid("this is not a proxy: CONNECT is not allowed")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise Invalid("the request must name a path that begins with '/'")
    if b"#" in target or len(target) > TARGET_BYTES_MAX:
        raise Invalid(f"the path is at most {TARGET_BYTES_MAX} bytes without '#'")


def _host(headers: Headers) -> str:
    found = [value for name, value in headers if name.lower() == b"host"]
    if len(found) != 1 or not _HOST.fullmatch(found[0]):
        raise Invalid("the request must have one Host header, such as web--8080.localhost")
    return found[0].decode("ascii")


def _length(headers: Headers, v1_1: bool) -> int | Chunked:
    found = [(name.lower(), value) for name, value in headers if name.lower() in _FRAMING]
    if not found:
        return 0
    if len(found) > 1:
        raise Invalid("the request tells the length of its body twice")
    name, value = found[0]
    if name == b"content-length":
        if not value.isdigit() or len(value) > 18:
            raise Invalid("Content-Length must be a number")
        return int(value)
    if value.lower() != b"chunked" or not v1_1:
        raise Invalid("Transfer-Encoding may only be chunked, and only in HTTP/1.1")
    return Chunked.BODY
