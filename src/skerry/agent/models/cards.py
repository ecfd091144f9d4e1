"""What the files of a model say of it: of a GGUF file its header, of safetensors the config beside them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from skerry.agent.models.cache import ModelCache
from skerry.errors import Failed
from skerry.model.weights import ModelCard, ModelFile, ModelFormat

HEADER_BYTES_MAX = 64 * 1024
CONFIG_BYTES_MAX = 1024 * 1024
_SHARD = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")
_BESIDE = re.compile(r"(^|/)(mmproj|projector|adapter)[^/]*$")


def card_of(cache: ModelCache, files: Sequence[ModelFile], told: Mapping[str, Any]) -> ModelCard:
    """`told`: by the place that it came from. Raises Failed where that is nonsense."""
    found: dict[str, Any] = {}
    if (main := _main_gguf(files)) is not None:
        found = {"format": ModelFormat.GGUF, "main": main.path, "architecture": _gguf_architecture(cache, main)}
    elif any(file.path.endswith(".safetensors") for file in files):
        found = {"format": ModelFormat.SAFETENSORS, "architecture": _config_architecture(cache, files)}
    try:
        return ModelCard.model_validate({**found, **told})
    except ValidationError as error:
        raise Failed("what its source tells of the model is not understood", because=str(error)) from None


def _main_gguf(files: Sequence[ModelFile]) -> ModelFile | None:
    """The one to load, of several the first shard. None where there are several models, or none."""
    found = [file for file in files if file.path.endswith(".gguf")]
    alone = [file for file in found if not _BESIDE.search(file.path)] or (found if len(found) == 1 else [])
    heads = [file for file in alone if (shard := _SHARD.search(file.path)) is None or shard.group(1) == "00001"]
    return heads[0] if len(heads) == 1 else None


def _gguf_architecture(cache: ModelCache, file: ModelFile) -> str | None:
    """`general.architecture`, which writers put first."""
    head = cache.read(file, HEADER_BYTES_MAX)
    key = b"general.architecture"
    at = head.find(struct.pack("<Q", len(key)) + key)
    if head[:4] != b"GGUF" or at < 0:
        return None
    at += 8 + len(key)
    if head[at : at + 4] != struct.pack("<I", 8):
        return None
    length = int.from_bytes(head[at + 4 : at + 12], "little")
    return head[at + 12 : at + 12 + min(length, 64)].decode(errors="replace")


def _config_architecture(cache: ModelCache, files: Sequence[ModelFile]) -> str | None:
    config = next((file for file in files if file.path == "config.json"), None)
    if config is None or config.size_bytes > CONFIG_BYTES_MAX:
        return None
    try:
        found: Any = json.loads(cache.read(config, CONFIG_BYTES_MAX))
    except ValueError:
        return None
    names = cast(dict[str, Any], found).get("architectures") if isinstance(found, dict) else None
    return str(cast(list[object], names)[0])[:100] if isinstance(names, list) and names else None
