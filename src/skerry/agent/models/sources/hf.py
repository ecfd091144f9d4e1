"""hf://OWNER/NAME[@REVISION][/PATTERN]: a repository of the Hugging Face hub, or of a server that speaks as it does.

The revision is looked up once and everything is asked for by its commit, so that a branch that moves meanwhile changes
nothing. Large files have their sha256 in the listing, the others what git calls them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from yarl import URL

from skerry.agent.models.sources.contract import FILES_MAX, Check, Form, Listed, Listing, wanted
from skerry.agent.models.sources.web import Headers, Web, endpoint_url
from skerry.errors import Failed, TooLarge

ENDPOINT = "https://huggingface.co"


class HuggingFace:
    def __init__(self, session: aiohttp.ClientSession, source: str, endpoint: str | None, secret: str | None) -> None:
        self._base = endpoint_url(endpoint or ENDPOINT)
        self.name = self._base.host or ""
        owner, _, rest = source.removeprefix("hf://").partition("/")
        name, _, self._pattern = rest.partition("/")
        name, _, revision = name.partition("@")
        self._repo = f"{owner}/{name}"
        self._revision = revision or "main"
        self._token = secret.strip() if secret else None
        self._web = Web(session, self.name, self._sign)

    def _sign(self, method: str, url: URL, headers: Headers) -> Headers:
        return {**headers, "Authorization": f"Bearer {self._token}"} if self._token else headers

    def _url(self, path: str) -> URL:
        return URL(f"{self._base}/{path}", encoded=True)

    async def list(self) -> Listing:
        revision = quote(self._revision.replace("%2F", "/"), safe="")
        about, _ = await self._web.json(self._url(f"api/models/{self._repo}/revision/{revision}"))
        commit = str(cast(dict[str, Any], about)["sha"])
        if not commit.isalnum():
            raise Failed(f"{self.name} does not say which commit {self._revision} is")
        files: list[Listed] = []
        url: URL | None = self._url(f"api/models/{self._repo}/tree/{commit}?recursive=true&expand=false")
        while url is not None:
            page, headers = await self._web.json(url)
            files += [self._listed(item, commit) for item in page if item.get("type") == "file"]
            if len(files) > 20 * FILES_MAX:
                raise TooLarge(f"{self._repo} has more than {20 * FILES_MAX} files")
            url = self._after(url, headers)
        return Listing(tuple(wanted(files, self._pattern)), commit)

    def _after(self, url: URL, headers: Headers) -> URL | None:
        """The next page."""
        for link in headers.get("Link", "").split(","):
            target, _, rest = link.strip().partition(">")
            if 'rel="next"' in rest and target.startswith("<"):
                following = url.join(URL(target[1:], encoded=True))
                if following.origin() == self._base.origin() and following != url:
                    return following
        return None

    def _listed(self, item: dict[str, Any], commit: str) -> Listed:
        path = str(item["path"])
        lfs = item.get("lfs")
        if lfs:
            check = Check(Form.SHA256, str(lfs["oid"]).removeprefix("sha256:"))
            size_bytes = int(lfs["size"])
        else:
            check, size_bytes = Check(Form.GIT, str(item["oid"])), int(item["size"])
        where = f"{self._repo}/resolve/{commit}/{quote(path)}"
        return Listed(path, size_bytes, check, check.digest, where)

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._web.range(self._url(file.where), start, end)
