"""What of a message's headers is passed on, and what is ours or only for one hop. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from skerry.gateway.request import Chunked, Headers, Request
from skerry.model.url import TOKEN_PARAMETER

COOKIE = b"skerry_url"
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS = frozenset({b"content-length", b"forwarded", b"x-real-ip", b"via", b"http2-settings"})
"""Written anew, or not passed on at all: whoever sends them could pretend to be somebody else."""
_KEY = re.compile(rb"(?i:bearer)[ \t]+(sk_[0-9a-f]{64})[ \t]*")
BEARER = re.compile(rb"(?i:bearer)[ \t]+(s[kt]_[A-Za-z0-9]{16,128})[ \t]*")
"""A key, or a token of services."""
_PARAMETER = TOKEN_PARAMETER.encode() + b"="


class Shown(NamedTuple):
    """What a request shows to be let in."""

    key: str | None
    links: list[str]
    """Tokens of signed links, from the path and from cookies."""
    from_path: bool


def shown(request: Request) -> Shown:
    _, tokens = split_target(request.target)
    cookies: list[bytes] = []
    key: str | None = None
    for name, value in request.headers:
        match name.lower():
            case b"cookie":
                cookies += [found for cookie, found in _cookies(value) if cookie == COOKIE and found is not None]
            case b"authorization" if found := _KEY.fullmatch(value):
                key = found[1].decode()
            case _:
                pass
    links = [token.decode("latin-1") for token in (*tokens, *cookies)]
    return Shown(key, links, bool(tokens))


def is_ours(name: bytes, value: bytes) -> bool:
    """Whether it is what somebody is let in by here, which nobody behind us is to see. `name` is in lower case."""
    if name == b"x-api-key":
        value = b"Bearer " + value
    return name in (b"authorization", b"x-api-key") and BEARER.fullmatch(value) is not None


def split_target(target: bytes) -> tuple[bytes, list[bytes]]:
    """The path and query without our parameter, and its values."""
    path, question, query = target.partition(b"?")
    if _PARAMETER not in query:
        return target, []
    pairs = query.split(b"&")
    kept = b"&".join(pair for pair in pairs if not pair.startswith(_PARAMETER))
    tokens = [pair.removeprefix(_PARAMETER) for pair in pairs if pair.startswith(_PARAMETER)]
    return (path + question + kept if kept else path), tokens


def to_guest(request: Request, *, client: str, scheme: str) -> bytes:
    """The head of the request as the sandbox gets it."""
    target, _ = split_target(request.target)
    lines = [b"%b %b HTTP/1.1" % (request.method, target)]
    hop = dropped(request.headers)
    for name, value in request.headers:
        lower = name.lower()
        # Some servers take X_Forwarded_For for X-Forwarded-For.
        plain = lower.replace(b"_", b"-")
        if lower in hop or plain in _OURS or plain.startswith(b"x-forwarded-"):
            continue
        if is_ours(lower, value):
            continue
        if lower == b"cookie":
            kept = b"; ".join(_pair(cookie) for cookie in _cookies(value) if cookie[0] != COOKIE)
            if not kept:
                continue
            value = kept
        if lower == b"expect" and not request.v1_1:
            continue
        lines.append(b"%b: %b" % (name, value))
    lines += [
        b"X-Forwarded-For: %b" % client.encode("latin-1"),
        b"X-Forwarded-Host: %b" % request.host.encode(),
        b"X-Forwarded-Proto: %b" % scheme.encode(),
    ]
    if isinstance(request.length, Chunked):
        lines.append(b"Transfer-Encoding: chunked")
    elif request.length or any(name.lower() == b"content-length" for name, _ in request.headers):
        lines.append(b"Content-Length: %d" % request.length)
    if request.upgrades:
        lines += [b"Connection: Upgrade", b"Upgrade: websocket"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def to_caller(headers: Headers) -> list[bytes]:
    """Lines of an answer of a sandbox, without framing. A cookie stays with the host that set it: with a Domain it
    would reach every other sandbox."""
    lines: list[bytes] = []
    hop = dropped(headers)
    for name, value in headers:
        lower = name.lower()
        if lower in hop or lower == b"content-length":
            continue
        if lower == b"set-cookie":
            first, *attributes = value.split(b";")
            if first.partition(b"=")[0].strip() == COOKIE:
                continue
            kept = [each for each in attributes if each.partition(b"=")[0].strip().lower() != b"domain"]
            value = b";".join([first, *kept])
        lines.append(b"%b: %b" % (name, value))
    return lines


def dropped(headers: Headers) -> set[bytes]:
    """Those for one hop: the usual ones, and whatever Connection names. What we decide by cannot be named away."""
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(word.strip().lower() for word in value.split(b","))
    return {*_HOP, *(named - {b"host", b"cookie", b"authorization", b"set-cookie", b"content-type"})}


def _cookies(line: bytes) -> Iterable[tuple[bytes, bytes | None]]:
    for pair in line.split(b";"):
        name, equals, value = pair.strip().partition(b"=")
        if name or equals:
            yield name.strip(), value.strip() if equals else None


def _pair(cookie: tuple[bytes, bytes | None]) -> bytes:
    name, value = cookie
    return name if value is None else name + b"=" + value
