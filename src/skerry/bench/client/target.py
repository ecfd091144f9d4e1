"""Where requests go: the URL in parts, and the head of a request written once."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from skerry.bench.contract import PATHS, Api, Request
from skerry.bench.data.audio import BOUNDARY
from skerry.errors import Invalid


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    socket: str | None
    """Path of a unix socket, in the place of host and port."""
    tls: ssl.SSLContext | None
    prefix: str
    """Of the path, without a slash at its end."""
    headers: tuple[tuple[str, str], ...]

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def address(self) -> str:
        """Names below localhost are this machine (RFC 6761), whether or not its resolver knows."""
        return "127.0.0.1" if self.host.endswith(".localhost") else self.host

    def heads(self) -> Mapping[Api, bytes]:
        """The head for each API up to the length of the body."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        kinds = {Api.TRANSCRIPTIONS: f"multipart/form-data; boundary={BOUNDARY}"}
        return {
            api: (
                f"POST {self.prefix}{path} HTTP/1.1\r\nHost: {self.authority}\r\n"
                f"Content-Type: {kinds.get(api, 'application/json')}\r\n{''.join(lines)}"
            ).encode("latin-1")
            for api, path in PATHS.items()
        }


def message(head: bytes, request: Request) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items()).encode("latin-1")
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, more, len(request.body), request.body)


def read_url(
    url: str,
    *,
    socket: str | None = None,
    headers: Mapping[str, str] | None = None,
    verify: bool = True,
    ca: str | None = None,
) -> Target:
    """`http://host:port/prefix`, with or without `/v1` at its end. Raises Invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"url: {url!r} is not one: {error}", field="url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Invalid(f"url: {url!r} is not allowed; give one such as http://127.0.0.1:8000", field="url")
    for name, value in (headers or {}).items():
        if not name or any(character in "\r\n\0:" for character in name) or any(c in "\r\n\0" for c in value):
            raise Invalid(f"header {name[:60]!r}: not allowed; give NAME: VALUE on one line", field="header")
    tls = _tls(verify, ca) if parts.scheme == "https" else None
    return Target(
        host=parts.hostname,
        port=port or (443 if tls else 80),
        socket=socket,
        tls=tls,
        prefix=parts.path.rstrip("/").removesuffix("/v1"),
        headers=tuple((headers or {}).items()),
    )


def _tls(verify: bool, ca: str | None) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(cafile=ca)
    except OSError as error:  # of which SSLError is one
        raise Invalid(f"ca: {ca} holds no certificates", field="ca", because=str(error)) from None
    if not verify:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls
