"""ollama://[HOST/OWNER/]NAME[:TAG]: a model of ollama's registry: a GGUF file, with its template and parameters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import aiohttp

from skerry.agent.models.sources.contract import Listed, Listing
from skerry.agent.models.sources.registry import Registry
from skerry.errors import Failed
from skerry.model.weights import TEXT_MAX

ENDPOINT = "https://registry.ollama.ai"
KIND = "application/vnd.ollama.image."
FILES = {"model": "model.gguf", "adapter": "adapter.gguf", "projector": "projector.gguf"}
TEXTS = ("template", "system", "license")


class Ollama:
    def __init__(self, session: aiohttp.ClientSession, source: str, endpoint: str | None, secret: str | None) -> None:
        path, _, tag = source.removeprefix("ollama://").rpartition("/")
        name, _, tag = tag.partition(":")
        parts = path.split("/") if path else []
        host = parts.pop(0) if len(parts) > 1 else None
        owner = parts[0] if parts else "library"
        asked = endpoint or (f"https://{host}" if host else ENDPOINT)
        self._tag = tag or "latest"
        self._registry = Registry(session, asked, f"{owner}/{name}", secret)
        self.name = self._registry.name

    async def list(self) -> Listing:
        manifest, digest = await self._registry.manifest(self._tag)
        files: list[Listed] = []
        card: dict[str, Any] = {}
        for layer in cast(list[dict[str, Any]], manifest.get("layers") or []):
            kind = str(layer.get("mediaType", "")).removeprefix(KIND)
            if kind in FILES:
                taken = sum(file.path.startswith(kind) for file in files)
                stem, _, end = FILES[kind].partition(".")
                files.append(self._registry.listed(f"{stem}-{taken + 1}.{end}" if taken else FILES[kind], layer))
            elif kind in TEXTS:
                text = await self._registry.small(layer, TEXT_MAX)
                card[kind] = f"{card[kind]}\n{text}" if kind in card else text
            elif kind == "params":
                card["parameters"] = self._parameters(await self._registry.small(layer, TEXT_MAX))
        return Listing(tuple(files), digest, card)

    def _parameters(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Failed(f"{self.name} tells parameters that are no JSON object")
        return {key: value for key, value in cast(dict[str, Any], found).items() if value is not None}

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._registry.read(file, start, end)
