"""The head of a request to services, read once for all requests that send the same bytes."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any

from skerry.gateway.headers import BEARER, dropped, is_ours
from skerry.gateway.request import Chunked, Headers, Request, value

_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""W3C's traceparent."""
_SESSION = (b"x-skerry-session", b"x-session-id")
_OURS = frozenset(
    {b"content-length", b"forwarded", b"x-real-ip", b"via", b"http2-settings", b"cookie", b"expect", b"x-request-id"}
)
"""Written anew, or of no use to a model server. A browser's cookies are not for it: services share their host."""


class Kind(Enum):
    INFER = auto()
    MODELS = auto()
    METRICS = auto()
    CHAT = auto()
    NONE = auto()


_INFER = frozenset(
    b"/v1/" + path
    for path in (
        b"chat/completions",
        b"completions",
        b"embeddings",
        b"rerank",
        b"score",
        b"responses",
        b"audio/transcriptions",
        b"audio/translations",
        b"audio/speech",
    )
)


def kind_of(method: bytes, path: bytes) -> Kind:
    if method == b"POST" and path in _INFER:
        return Kind.INFER
    if method not in (b"GET", b"HEAD"):
        return Kind.NONE
    if path == b"/v1/models" or path.startswith(b"/v1/models/"):
        return Kind.MODELS
    return {b"/metrics": Kind.METRICS, b"/chat": Kind.CHAT}.get(path, Kind.NONE)


class Head:
    __slots__ = (
        "content_type",
        "entry",
        "expects",
        "headers",
        "is_sampled",
        "keeps",
        "kind",
        "label",
        "length",
        "method",
        "passed",
        "path",
        "request_id",
        "session",
        "span",
        "token",
        "trace",
        "v1_1",
    )

    def __init__(self, request: Request, label: str | None) -> None:
        """`label`: of the service that the host names; None where the body says which."""
        self.method = request.method
        self.path = request.target.partition(b"?")[0]
        self.kind = kind_of(self.method, self.path)
        self.label = label
        self.length: int = -1 if isinstance(request.length, Chunked) else request.length
        """Of the body; -1: it comes in chunks."""
        self.keeps = request.keeps
        self.v1_1 = request.v1_1
        self.headers: Headers = request.headers
        self.expects = self.v1_1 and (value(request.headers, b"expect") or b"").lower() == b"100-continue"
        """Its body comes when it has been told to go on."""
        self.token = token_of(request.headers)
        self.content_type = (value(request.headers, b"content-type") or b"").lower()
        told = value(request.headers, b"x-request-id")
        self.request_id = told if told is not None and _ID.fullmatch(told) else None
        traced = _TRACE.fullmatch(value(request.headers, b"traceparent") or b"")
        self.trace = traced[1].decode() if traced else ""
        """The caller's trace; the header itself is passed on as it is where we do not trace ourselves."""
        self.span = traced[2].decode() if traced else ""
        self.is_sampled = traced is not None and int(traced[3], 16) & 1 == 1
        self.session = session_of(request.headers)
        self.passed = _passed(request)
        """The head as a replica gets it, but for who asks, its id and the length of the body."""
        self.entry: Any = None
        """What is known of the token, found once."""


def session_of(headers: Headers) -> str:
    """What requests that belong together have in common, where their sender says so."""
    found = next((found for name in _SESSION if (found := value(headers, name))), b"")
    return found[:128].decode("latin-1")


def token_of(headers: Headers) -> str | None:
    """A key or token: in Authorization, or in x-api-key as some clients send it."""
    for name, found in headers:
        lower = name.lower()
        if lower == b"authorization" and (match := BEARER.fullmatch(found)):
            return match[1].decode()
        if lower == b"x-api-key" and (match := BEARER.fullmatch(b"Bearer " + found)):
            return match[1].decode()
    return None


def _passed(request: Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method, request.target)]
    hop = dropped(request.headers)
    for name, found in request.headers:
        lower = name.lower()
        plain = lower.replace(b"_", b"-")
        if lower in hop or plain in _OURS or plain.startswith((b"x-forwarded-", b"x-skerry-")):
            continue
        if is_ours(lower, found):
            continue
        lines.append(b"%b: %b" % (name, found))
    return b"\r\n".join(lines) + b"\r\n"
