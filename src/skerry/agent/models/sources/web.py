"""HTTP to places that hold models: what may be asked, redirects, and errors in our words.

Plain HTTP is for this very machine only, and so is whoever is asked over it: a server elsewhere cannot send us to a
program on our loopback. What lets us in is shown to the server that it is for, and to no other one that it sends us to.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from skerry.agent.models.sources.contract import NoRanges
from skerry.errors import Failed, Forbidden, Invalid, NotFound, SkerryError, Unavailable

REDIRECTS_MAX = 5
DOCUMENT_BYTES_MAX = 32 * 1024 * 1024
"""Of a listing or a manifest."""
CONNECT_S_MAX = 15.0
SILENCE_S_MAX = 60.0
CHUNK_BYTES = 256 * 1024
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Headers = Mapping[str, str]
Signer = Callable[[str, URL, Headers], Headers]
"""(method, URL, headers) -> headers with which it is let in."""


def endpoint_url(endpoint: str) -> URL:
    """Raises Invalid for plain HTTP to another machine."""
    url = URL(endpoint.rstrip("/"))
    if url.scheme != "https" and not _is_here(url):
        raise Invalid(f"endpoint: {endpoint} has to be https://; http:// is for this machine only", field="endpoint")
    return url


def _is_here(url: URL) -> bool:
    host = url.host or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_near(url: URL) -> bool:
    """On this machine or its own wire: where the addresses of clouds' secrets are."""
    try:
        address = ipaddress.ip_address(url.host or "")
    except ValueError:
        return _is_here(url)
    return address.is_loopback or address.is_link_local or address.is_unspecified


class Web:
    def __init__(self, session: aiohttp.ClientSession, name: str, sign: Signer | None = None) -> None:
        self.session = session
        self.name = name
        self.sign: Signer = sign or (lambda method, url, headers: headers)

    @asynccontextmanager
    async def open(
        self, method: str, url: URL, headers: Headers | None = None, *, raw: bool = False
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer that all redirects lead to; its status is 2xx, or any where `raw`."""
        first, given = url, dict(headers or {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX, sock_read=SILENCE_S_MAX)
        try:
            for _ in range(REDIRECTS_MAX + 1):
                signed = self.sign(method, url, given) if url.origin() == first.origin() else given
                async with self.session.request(
                    method, url, headers=dict(signed), allow_redirects=False, timeout=timeout
                ) as answer:
                    target = answer.headers.get("Location") if answer.status in (301, 302, 303, 307, 308) else None
                    if target is None:
                        if answer.status >= 300 and not raw:
                            raise self.refusal(answer.status)
                        yield answer
                        return
                    url = self._next(url, target)
            raise Failed(f"{self.name} sends us from one place to the next without end")
        except TimeoutError as error:
            raise Unavailable(f"{self.name} does not answer", because=repr(error), retry_after_s=5) from error
        except (aiohttp.ClientError, OSError) as error:
            say = f"the connection to {self.name} broke, or there was none"
            raise Unavailable(say, because=repr(error), retry_after_s=5) from error

    def _next(self, url: URL, target: str) -> URL:
        found = url.join(URL(target, encoded=True))
        if found.scheme not in ("https", "http") or (found.scheme == "http" and not _is_here(url)):
            raise Failed(f"{self.name} sends us to {found.scheme}://{found.host}, which is not safe")
        if _is_near(found) and not _is_here(url):
            raise Failed(f"{self.name} sends us to {found.host}, a place of this machine's own")
        return found

    def refusal(self, status: int) -> SkerryError:
        if status in (401, 403):
            return Forbidden(f"{self.name} does not let us in; give a secret with what does (--secret)")
        if status in (404, 410):
            return NotFound(f"{self.name} has no such model, or shows it only to those that it knows", field="source")
        if status in AGAIN:
            return Unavailable(f"{self.name} answers {status}", retry_after_s=5)
        return Failed(f"{self.name} answers {status}")

    async def json(self, url: URL, headers: Headers | None = None) -> tuple[Any, Headers]:
        body, found = await self.document(url, headers)
        try:
            return json.loads(body), found
        except ValueError:
            raise Failed(f"{self.name} answered what is not JSON") from None

    async def document(self, url: URL, headers: Headers | None = None) -> tuple[bytes, Headers]:
        async with self.open("GET", url, headers) as answer:
            return await self.whole(answer), answer.headers

    async def whole(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > DOCUMENT_BYTES_MAX:
                raise Failed(f"{self.name} answers with more than a listing can be")
        return bytes(body)

    @asynccontextmanager
    async def range(
        self, url: URL, start: int, end: int, headers: Headers | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        asked = {**(headers or {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        async with self.open("GET", url, asked) as answer:
            if answer.status != 206 and start:
                raise NoRanges
            if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise Failed(f"{self.name} answers with another part of a file than it was asked for")
            yield self._chunks(answer, end - start)

    async def _chunks(self, answer: aiohttp.ClientResponse, left: int) -> AsyncIterator[bytes]:
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
