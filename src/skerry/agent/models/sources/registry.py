"""What OCI's registries and ollama's have in common: manifests and blobs by digest, and tokens that they hand out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from yarl import URL

from skerry.agent.models.sources.contract import Check, Form, Listed
from skerry.agent.models.sources.web import Headers, Web, endpoint_url
from skerry.errors import Failed, Forbidden, SkerryError

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIELD = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class Registry:
    def __init__(self, session: aiohttp.ClientSession, endpoint: str, repository: str, secret: str | None) -> None:
        self._base = endpoint_url(endpoint)
        self.name = self._base.host or ""
        self._repository = repository
        self._secret = secret.strip() if secret else None
        self._token: str | None = None
        self._web = Web(session, self.name, self._sign)
        self._door = Web(session, self.name)

    def _sign(self, method: str, url: URL, headers: Headers) -> Headers:
        if self._token is not None:
            return {**headers, "Authorization": f"Bearer {self._token}"}
        return {**headers, **self._basic()}

    def _basic(self) -> dict[str, str]:
        if self._secret is None:
            return {}
        if ":" not in self._secret:
            return {"Authorization": f"Bearer {self._secret}"}
        return {"Authorization": "Basic " + base64.b64encode(self._secret.encode()).decode()}

    async def manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """With its digest. Raises NotFound, Forbidden, Unavailable or Failed."""
        url = URL(f"{self._base}/v2/{self._repository}/manifests/{quote(reference, safe=':')}", encoded=True)
        headers = {"Accept": ", ".join(MANIFESTS)}
        async with self._web.open("GET", url, headers, raw=True) as answer:
            status, challenge = answer.status, answer.headers.get("WWW-Authenticate", "")
        if status == 401 and challenge.lower().startswith("bearer "):
            await self.let_in(challenge)
        body, _ = await self._web.document(url, headers)
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise Failed(f"{self.name} sent another manifest than was asked for")
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Failed(f"{self.name} answered with what is no manifest")
        return found, digest  # pyright: ignore[reportUnknownVariableType]

    async def let_in(self, challenge: str) -> None:
        """A token from whom the registry names, for what we have or for nothing."""
        fields = dict(_FIELD.findall(challenge))
        realm = URL(fields.get("realm", ""))
        try:
            realm = endpoint_url(str(realm.with_query(None))).with_query(realm.query)
        except (SkerryError, ValueError):
            raise Failed(f"{self.name} sends us to {realm.host} to be let in, which is not safe") from None
        scope = fields.get("scope") or f"repository:{self._repository}:pull"
        asked = {"scope": scope, **({"service": fields["service"]} if "service" in fields else {})}
        # A realm of our loopback is for a registry that is there, too.
        if realm.scheme == "http" and self._base.scheme == "https":
            raise Failed(f"{self.name} sends us to {realm.host} to be let in, which is not safe")
        answer, _ = await self._door.json(realm.update_query(asked), self._basic())
        given = cast(dict[str, Any], answer) if isinstance(answer, dict) else {}
        token = given.get("token") or given.get("access_token")
        if not isinstance(token, str):
            raise Forbidden(f"{self.name} gives us no token; give a secret with what lets us in (--secret)")
        self._token = token

    def listed(self, path: str, descriptor: dict[str, Any]) -> Listed:
        digest = str(descriptor.get("digest", ""))
        if not DIGEST.fullmatch(digest):
            raise Failed(f"{self.name} names a file by {digest[:80]!r}, which is no sha256")
        sha256 = digest.removeprefix("sha256:")
        return Listed(path, int(descriptor.get("size", -1)), Check(Form.SHA256, sha256), sha256, digest)

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        url = URL(f"{self._base}/v2/{self._repository}/blobs/{file.where}", encoded=True)
        return self._web.range(url, start, end)

    async def small(self, descriptor: dict[str, Any], bytes_max: int) -> str:
        """The text of a blob, which is checked."""
        file = self.listed("text", descriptor)
        if file.size_bytes > bytes_max:
            raise Failed(f"{self.name} tells of a text of {file.size_bytes} bytes; at most {bytes_max} are read")
        body = b""
        if file.size_bytes:
            async with self.read(file, 0, file.size_bytes) as chunks:
                async for chunk in chunks:
                    body += chunk
        if hashlib.sha256(body).hexdigest() != file.identity:
            raise Failed(f"{self.name} sent a text that is not what its digest says")
        return body.decode(errors="replace")
