"""https://HOST/PATH#sha256=DIGEST: one file of any web server, or an archive, which is unpacked once it is here.

The digest has to be said: nothing else tells whether what a plain web server sends is what was meant.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from urllib.parse import unquote

import aiohttp
from yarl import URL

from skerry.agent.models.sources.contract import Check, Form, Listed, Listing
from skerry.agent.models.sources.web import Headers, Web, endpoint_url
from skerry.errors import Failed, NotFound

FIRST_BYTE = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}


class Https:
    def __init__(self, session: aiohttp.ClientSession, source: str, secret: str | None) -> None:
        address, _, self._digest = source.partition("#sha256=")
        self._url = URL(address, encoded=True)
        endpoint_url(str(self._url.origin()))
        self.name = self._url.host or ""
        self._secret = secret.strip() if secret else None
        self._web = Web(session, self.name, self._sign)

    def _sign(self, method: str, url: URL, headers: Headers) -> Headers:
        if self._secret is None:
            return headers
        if ":" not in self._secret:
            return {**headers, "Authorization": f"Bearer {self._secret}"}
        return {**headers, "Authorization": "Basic " + base64.b64encode(self._secret.encode()).decode()}

    async def list(self) -> Listing:
        """Its size is asked for with its first byte: not every server, nor every signed link, answers HEAD."""
        async with self._web.open("GET", self._url, FIRST_BYTE, raw=True) as answer:
            if answer.status == 416:
                raise NotFound(f"{self._url.path} of {self.name} is empty", field="source")
            if answer.status >= 300:
                raise self._web.refusal(answer.status)
            whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
            size = whole if answer.status == 206 else answer.headers.get("Content-Length", "")
        if not size.isdigit():
            raise Failed(f"{self.name} does not say how large {self._url.path} is")
        path = unquote(self._url.raw_path).rsplit("/", 1)[-1]
        return Listing((Listed(path, int(size), Check(Form.SHA256, self._digest), self._digest),))

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._web.range(self._url, start, end)
