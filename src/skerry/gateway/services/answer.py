"""The head of a replica's answer, read once for all answers that send the same bytes, and written anew for callers."""

from __future__ import annotations

from typing import Any

import httptools

from skerry.gateway.answers import reason_of
from skerry.gateway.headers import to_caller
from skerry.gateway.request import HEAD_BYTES_MAX, HEADERS_MAX, Headers, value

CHUNKED = -1
UNTIL_CLOSED = -2
_KNOWN_MAX = 512
_OURS = (b"x-skerry-", b"x-request-id:", b"x-ratelimit-")


class AnswerHead:
    __slots__ = ("is_stream", "keeps", "length", "lines", "status")

    def __init__(self, status: int, reason: bytes, headers: Headers, *, keeps: bool) -> None:
        """Raises ValueError for what has two readings."""
        self.status = status
        self.length = _length(status, headers)
        self.keeps = keeps and self.length != UNTIL_CLOSED
        kind = value(headers, b"content-type") or b""
        self.is_stream = kind.startswith(b"text/event-stream")
        lines = [b"HTTP/1.1 %d %b" % (status, reason or reason_of(status))]
        lines += [line for line in to_caller(headers) if not line.lower().startswith(_OURS)]
        self.lines = b"\r\n".join(lines) + b"\r\n"
        """For the caller, but for what we add and how the body ends."""

    def framing(self, *, plain: bool) -> bytes:
        """How a caller is told where the body ends; `plain`: it does not speak HTTP/1.1."""
        if self.length >= 0:
            return b"" if self.status in (204, 304) else b"Content-Length: %d\r\n" % self.length
        return b"" if plain else b"Transfer-Encoding: chunked\r\n"


class AnswerHeads:
    """Answers of one engine differ in their length and the second of their date: most heads come more than once."""

    def __init__(self) -> None:
        self._known: dict[bytes, AnswerHead] = {}

    def read(self, head: bytes) -> AnswerHead:
        """Raises ValueError."""
        found = self._known.get(head)
        if found is None:
            found = _Reader().read(head)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[head] = found
        return found


def _length(status: int, headers: Headers) -> int:
    if status in (204, 304) or status < 200:
        return 0
    coding = value(headers, b"transfer-encoding")
    lengths = [found for name, found in headers if name.lower() == b"content-length"]
    if coding is not None:
        if coding.strip().lower() != b"chunked" or lengths:
            raise ValueError("a coding of the body that is not spoken here")
        return CHUNKED
    if not lengths:
        return UNTIL_CLOSED
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise ValueError("the length of the body is told twice, or is no number")
    return int(lengths[0])


class _Reader:
    """The strict parser, for a head that has not come before."""

    def __init__(self) -> None:
        self._reason = b""
        self._headers: Headers = []
        self._found: AnswerHead | None = None
        self._parser: Any = httptools.HttpResponseParser(self)

    def read(self, head: bytes) -> AnswerHead:
        if len(head) > HEAD_BYTES_MAX:
            raise ValueError("too long a head")
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            raise ValueError("it changes to a protocol nobody asked for") from None
        except httptools.HttpParserError as error:
            raise ValueError(f"it is not HTTP: {error}") from None
        if self._found is None:
            raise ValueError("it is not the head of an answer")
        return self._found

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, found: bytes) -> None:
        self._headers.append((name, found))

    def on_headers_complete(self) -> None:
        if len(self._headers) > HEADERS_MAX:
            raise ValueError("too many headers")
        parser = self._parser
        self._found = AnswerHead(
            parser.get_status_code(), self._reason, self._headers, keeps=bool(parser.should_keep_alive())
        )
