"""s3://BUCKET/PREFIX: the objects below a prefix, of AWS or of any server that speaks as it does."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from skerry.agent.models.sources.contract import FILES_MAX, Check, Form, Listed, Listing
from skerry.agent.models.sources.signature import Keys, signed
from skerry.agent.models.sources.web import Headers, Web, endpoint_url
from skerry.clock import Clock
from skerry.errors import Failed, Invalid, TooLarge

REGION = "us-east-1"
_MD5 = re.compile(r"[0-9a-f]{32}")
_REGION = re.compile(r"s3[.-]([a-z0-9-]+)\.amazonaws\.com$")


class S3:
    def __init__(
        self, session: aiohttp.ClientSession, clock: Clock, source: str, endpoint: str | None, secret: str | None
    ) -> None:
        self._bucket, _, prefix = source.removeprefix("s3://").partition("/")
        self._prefix = prefix
        found = _REGION.search(endpoint or "")
        region = found.group(1) if found else REGION
        self._base = endpoint_url(endpoint or f"https://s3.{region}.amazonaws.com")
        self.name = f"{self._base.host}/{self._bucket}"
        keys = _keys(secret, region) if secret else None

        def sign(method: str, url: URL, headers: Headers) -> Headers:
            return signed(method, url, headers, keys, clock.now()) if keys else headers

        self._web = Web(session, self.name, sign)

    def _url(self, key: str = "", query: str = "") -> URL:
        path = f"{self._base.raw_path.rstrip('/')}/{self._bucket}/{quote(key)}"
        return URL(f"{self._base.origin()}{path}{query}", encoded=True)

    async def list(self) -> Listing:
        keys: list[tuple[str, int, str]] = []
        token = ""
        while True:
            # In the order of their names, as they are signed.
            more = f"continuation-token={quote(token, safe='')}&" if token else ""
            query = f"?{more}list-type=2&prefix={quote(self._prefix, safe='')}"
            body, _ = await self._web.document(self._url(query=query))
            page, token = _page(body, self.name)
            keys += page
            if len(keys) > FILES_MAX:
                raise TooLarge(f"there are more than {FILES_MAX} objects below it; name a longer prefix")
            if not token:
                break
        files = [await self._listed(key, size_bytes, etag) for key, size_bytes, etag in keys if self._is_inside(key)]
        return Listing(tuple(files))

    def _is_inside(self, key: str) -> bool:
        """Below the folder, or the very object: not `llama-2` where `llama` is asked for. Empty folders are none."""
        prefix = self._prefix.rstrip("/")
        return not key.endswith("/") and (not prefix or key == prefix or key.startswith(prefix + "/"))

    async def _listed(self, key: str, size_bytes: int, etag: str) -> Listed:
        check = Check(Form.MD5, etag) if _MD5.fullmatch(etag) else None
        async with self._web.open("HEAD", self._url(key), {"x-amz-checksum-mode": "ENABLED"}) as answer:
            encrypted = "x-amz-server-side-encryption-customer-algorithm" in answer.headers
            if encrypted or answer.headers.get("x-amz-server-side-encryption", "AES256") != "AES256":
                check = None  # then the ETag is no digest of the content
            if (given := answer.headers.get("x-amz-checksum-sha256", "")) and "-" not in given:
                check = Check(Form.SHA256, _hex(given, self.name))
            if answer.headers.get("ETag", "").strip('"') != etag:
                raise Failed(f"{key} has changed in {self.name} while it was looked at; try again")
        prefix = self._prefix.rstrip("/")
        path = key.rsplit("/", 1)[-1] if key == prefix else key[len(prefix) + 1 if prefix else 0 :]
        return Listed(path, size_bytes, check, f"{self._url(key)} {etag}", f"{etag} {key}")

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        etag, _, key = file.where.partition(" ")
        return self._web.range(self._url(key), start, end, {"If-Match": f'"{etag}"'})


def _keys(secret: str, region: str) -> Keys:
    parts = secret.strip().split(":", 2)
    if len(parts) < 2:
        raise Invalid("secret: of s3 it is ACCESS_KEY:SECRET_KEY, or with :SESSION_TOKEN", field="secret")
    return Keys(parts[0], parts[1], parts[2] if len(parts) > 2 else None, region)


def _page(body: bytes, name: str) -> tuple[list[tuple[str, int, str]], str]:
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise Failed(f"{name} answered with what is no list of objects")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise Failed(f"{name} answered with what is no list of objects") from None
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    found: list[tuple[str, int, str]] = []
    for item in root.iter(f"{space}Contents"):
        etag = (item.findtext(f"{space}ETag") or "").strip('"')
        found.append((item.findtext(f"{space}Key") or "", int(item.findtext(f"{space}Size") or 0), etag))
    return found, root.findtext(f"{space}NextContinuationToken") or ""


def _hex(text: str, name: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except binascii.Error:
        raise Failed(f"{name} tells a checksum that is none") from None
