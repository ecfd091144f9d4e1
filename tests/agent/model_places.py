"""Servers on loopback that speak as the places do that models come from, with failures on request."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web
from yarl import URL

from skerry.agent.models.sources.signature import Keys, signed

TOKEN = "hf_sesame"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Place:
    """What all of them have: files, and how they are given away."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.given: Counter[str] = Counter()
        """Bytes of each file that were sent."""
        self.asked: list[tuple[str, str, str]] = []
        """(method, path, Authorization or "")."""
        self.breaks: dict[str, list[int]] = {}
        """Path -> after how many bytes each of the next answers breaks off."""
        self.damage: Counter[str] = Counter()
        """Path -> how many of the next answers have a byte that is wrong."""
        self.ranges = True
        self.base = ""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        raise NotImplementedError

    @web.middleware
    async def note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path, request.headers.get("Authorization", "")))
        return await handler(request)

    async def give(self, request: web.Request, path: str, headers: dict[str, str] | None = None) -> web.StreamResponse:
        data = self.files[path]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", "")) if self.ranges else None
        start, end = (int(found[1]), min(int(found[2]) + 1, len(data))) if found else (0, len(data))
        answer = web.StreamResponse(status=206 if found else 200, headers=headers)
        if found:
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        answer.content_length = end - start
        body = bytearray(data[start:end])
        if self.damage[path] > 0:
            self.damage[path] -= 1
            body[0] ^= 1
        await answer.prepare(request)
        stops = self.breaks.get(path) or []
        stop = stops.pop(0) if stops else None
        await answer.write(bytes(body[:stop]))
        self.given[path] += len(body[:stop])
        if stop is not None and request.transport is not None:
            request.transport.close()
        return answer


@asynccontextmanager
async def serving(place: Place) -> AsyncGenerator[Place]:
    app = web.Application(middlewares=[place.note])
    place.add_routes(app.router)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    place.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield place
    finally:
        await runner.cleanup()


class Site(Place):
    """A plain web server, which may want a name and a password."""

    login = ""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_route("*", "/{path:.+}", self.get)

    async def get(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return web.Response(status=405)
        if self.login and request.headers.get("Authorization") != self.login:
            return web.Response(status=401)
        if request.match_info["path"] not in self.files:
            return web.Response(status=404)
        return await self.give(request, request.match_info["path"])

    def source(self, path: str, digest: str | None = None) -> str:
        return f"{self.base}/{path}#sha256={digest or sha256(self.files[path])}"


class Hub(Place):
    """Pages of two, large files (*.safetensors, *.gguf) in LFS behind a redirect, a token if it is private."""

    commit = "c0ffee" * 6
    private = False
    elsewhere: str | None = None
    """Where large files are, in place of its own other name."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/models/{owner}/{name}/revision/{revision}", self.revision)
        router.add_get("/api/models/{owner}/{name}/tree/{commit}", self.tree)
        router.add_get("/{owner}/{name}/resolve/{commit}/{path:.+}", self.resolve)
        router.add_get("/cdn/{path:.+}", self.cdn)

    def _refuses(self, request: web.Request) -> bool:
        return self.private and request.headers.get("Authorization") != f"Bearer {TOKEN}"

    async def revision(self, request: web.Request) -> web.Response:
        if self._refuses(request):
            return web.json_response({"error": "no"}, status=401)
        if request.match_info["name"] != "tiny" or request.match_info["revision"] not in ("main", "v1"):
            return web.json_response({"error": "none"}, status=404)
        return web.json_response({"sha": self.commit})

    async def tree(self, request: web.Request) -> web.Response:
        at = int(request.query.get("cursor", 0))
        paths = sorted(self.files)
        items: list[dict[str, Any]] = [{"type": "directory", "path": "sub", "oid": "x", "size": 0}]
        for path in paths[at : at + 2]:
            data = self.files[path]
            item = {"type": "file", "path": path, "size": len(data)}
            item["oid"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            if path.endswith((".safetensors", ".gguf")):
                item["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
            items.append(item)
        headers = {}
        if at + 2 < len(paths):
            headers["Link"] = f'<{self.base}{request.path}?recursive=true&cursor={at + 2}>; rel="next"'
        return web.json_response(items, headers=headers)

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if self._refuses(request):
            return web.json_response({"error": "no"}, status=401)
        if path.endswith((".safetensors", ".gguf")):
            there = self.elsewhere or self.base.replace("127.0.0.1", "localhost") + "/cdn/" + quote(path)
            return web.Response(status=302, headers={"Location": there})
        return await self.give(request, path)

    async def cdn(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return web.Response(status=400, text="a token that is not for us")
        return await self.give(request, request.match_info["path"])


class Bucket(Place):
    """Pages of two; every request has to be signed, as the test computes it from what was sent."""

    keys = Keys("AKIA1", "secret+key", None, "us-east-1")

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/weights/", self.list)
        router.add_route("*", "/weights/{key:.+}", self.get)

    def _refuses(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        names = re.search(r"SignedHeaders=([^,]*)", given)
        at = request.headers.get("x-amz-date", "")
        if names is None or not at:
            return True
        skipped = ("host", "x-amz-date", "x-amz-content-sha256")
        headers = {name: request.headers[name] for name in names[1].split(";") if name not in skipped}
        now = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        url = URL(self.base + request.raw_path, encoded=True)
        return signed(request.method, url, headers, self.keys, now)["Authorization"] != given

    def etag(self, key: str) -> str:
        return hashlib.md5(self.files[key]).hexdigest()

    async def list(self, request: web.Request) -> web.Response:
        if self._refuses(request):
            return web.Response(status=403)
        keys = [key for key in sorted(self.files) if key.startswith(request.query["prefix"])]
        at = int(request.query.get("continuation-token", "0").removeprefix("a/+"))
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.files[key])}</Size>"
            f"<ETag>&quot;{self.etag(key)}&quot;</ETag></Contents>"
            for key in keys[at : at + 2]
        )
        if at + 2 < len(keys):
            items += f"<NextContinuationToken>a/+{at + 2}</NextContinuationToken>"
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return web.Response(text=f'<ListBucketResult xmlns="{space}">{items}</ListBucketResult>')

    async def get(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        if self._refuses(request):
            return web.Response(status=403)
        headers = {"ETag": f'"{self.etag(key)}"'}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        if request.headers.get("If-Match") != headers["ETag"]:
            return web.Response(status=412)
        return await self.give(request, key, headers)


class Registry(Place):
    """Blobs by digest; a token for who has user and password, got from the place that it names."""

    private = False

    def __init__(self) -> None:
        super().__init__()
        self.manifests: dict[str, dict[str, Any]] = {}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v2/{name:.+}/manifests/{reference}", self.manifest)
        router.add_get("/v2/{name:.+}/blobs/{digest}", self.blob)
        router.add_get("/token", self.token)

    def put(self, data: bytes, kind: str, title: str | None = None) -> dict[str, Any]:
        digest = f"sha256:{sha256(data)}"
        self.files[digest] = data
        notes = {"annotations": {"org.opencontainers.image.title": title}} if title else {}
        return {"mediaType": kind, "digest": digest, "size": len(data), **notes}

    def _refuses(self, request: web.Request) -> bool:
        return self.private and request.headers.get("Authorization") != "Bearer opened"

    def _challenge(self) -> web.Response:
        scope = "repository:models/tiny:pull"
        told = f'Bearer realm="{self.base}/token",service="here",scope="{scope}"'
        return web.Response(status=401, headers={"WWW-Authenticate": told})

    async def token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Basic bWU6cGFzcw==":  # me:pass
            return web.Response(status=401)
        assert (request.query["service"], request.query["scope"]) == ("here", "repository:models/tiny:pull")
        return web.json_response({"token": "opened"})

    async def manifest(self, request: web.Request) -> web.Response:
        if self._refuses(request):
            return self._challenge()
        found = self.manifests.get(f"{request.match_info['name']}:{request.match_info['reference']}")
        if found is None:
            return web.Response(status=404)
        return web.Response(body=json.dumps(found).encode(), content_type="application/json")

    async def blob(self, request: web.Request) -> web.StreamResponse:
        if self._refuses(request):
            return self._challenge()
        return await self.give(request, request.match_info["digest"])
