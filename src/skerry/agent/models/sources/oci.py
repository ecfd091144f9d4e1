"""oci://HOST/NAME[:TAG|@DIGEST]: an artifact of a registry whose layers are files, as ORAS and model packers make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import aiohttp

from skerry.agent.models.sources.contract import Listed, Listing
from skerry.agent.models.sources.registry import Registry
from skerry.errors import Invalid

TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
INDEX_DEPTH_MAX = 3


class Oci:
    def __init__(self, session: aiohttp.ClientSession, source: str, endpoint: str | None, secret: str | None) -> None:
        host, _, rest = source.removeprefix("oci://").partition("/")
        name, at, digest = rest.partition("@")
        name, _, tag = name.partition(":")
        self._reference = digest if at else tag or "latest"
        self._registry = Registry(session, endpoint or f"https://{host}", name, secret)
        self.name = self._registry.name

    async def list(self) -> Listing:
        reference = self._reference
        for _ in range(INDEX_DEPTH_MAX):
            manifest, digest = await self._registry.manifest(reference)
            if "manifests" not in manifest:
                layers = cast(list[dict[str, Any]], manifest.get("layers") or [])
                return Listing(tuple(self._file(layer) for layer in layers), digest)
            inside = cast(list[dict[str, Any]], manifest["manifests"])
            if len(inside) != 1:
                raise Invalid(f"{self.name}: it is {len(inside)} artifacts at once; name one by its digest")
            reference = str(inside[0].get("digest", ""))
        raise Invalid(f"{self.name}: its indexes are nested more than {INDEX_DEPTH_MAX} deep")

    def _file(self, layer: dict[str, Any]) -> Listed:
        kind, notes = str(layer.get("mediaType", "")), cast(dict[str, Any], layer.get("annotations") or {})
        path = next((str(notes[title]) for title in TITLES if title in notes), None)
        if path is None and "gguf" in kind:
            path = "model.gguf"
        if path is None and "license" in kind:
            path = "LICENSE"
        packed = ".tar" in kind or "+gzip" in kind or "+zstd" in kind
        if path is None or packed:
            raise Invalid(f"{self.name}: a layer of type {kind} is no file of a model; artifacts of single files are")
        return self._registry.listed(path, layer)

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._registry.read(file, start, end)
