"""What engines publish of their KV cache: vLLM's events, in the forms that its versions have had."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from skerry.engines.msgpack import pack, unpack

PORT = 5557
REPLAY_PORT = 5558
TOPIC = b"kv-events"


@dataclass(frozen=True, slots=True)
class KvEvent:
    kind: Literal["stored", "removed", "cleared"]
    blocks: tuple[int | bytes, ...] = ()
    """The engine's own hashes; `tokens` say what they stand for."""
    parent: int | bytes | None = None
    tokens: tuple[int, ...] = ()
    """Of all blocks stored, one after the other."""
    block_size: int = 0
    adapter: str | None = None


def encode(events: Iterable[KvEvent], at_s: float) -> bytes:
    """As vLLM does today: maps throughout, with a `type`."""
    return pack({"ts": at_s, "events": [_map(event) for event in events], "data_parallel_rank": 0})


def decode(payload: bytes, *, tokens: bool = True) -> list[KvEvent]:
    """Raises ValueError where it is not a batch of events. Kinds that came later than this was written are left out.

    `tokens`: whether they are wanted; a prompt has thousands, which take longer to read than all the rest.
    """
    batch: Any = unpack(payload, "" if tokens else "token_ids")
    events: Any = None
    if isinstance(batch, dict):
        events = cast("dict[str, Any]", batch).get("events")
    elif isinstance(batch, list) and len(cast("list[Any]", batch)) > 1:
        events = cast("list[Any]", batch)[1]
    if not isinstance(events, list):
        raise ValueError("not a batch of KV events")
    return [event for one in cast("list[Any]", events) if (event := _event(one)) is not None]


def _map(event: KvEvent) -> dict[str, Any]:
    if event.kind == "cleared":
        return {"type": "AllBlocksCleared"}
    if event.kind == "removed":
        return {"type": "BlockRemoved", "block_hashes": event.blocks, "medium": "GPU"}
    return {
        "type": "BlockStored",
        "block_hashes": event.blocks,
        "parent_block_hash": event.parent,
        "token_ids": event.tokens,
        "block_size": event.block_size,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": event.adapter,
    }


_FIELDS = {
    "BlockStored": ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"),
    "BlockRemoved": ("block_hashes", "medium"),
    "AllBlocksCleared": (),
}
"""In the order in which they come where events are lists, as before vLLM 0.12 or so."""


def _event(one: Any) -> KvEvent | None:
    if isinstance(one, list) and one:
        kind, *values = cast("list[Any]", one)
        found = dict(zip(_FIELDS.get(kind, ()), values, strict=False))
    elif isinstance(one, dict):
        found = cast("dict[str, Any]", one)
        kind = found.get("type")
    else:
        raise ValueError("not a KV event")
    if found.get("medium") not in (None, "GPU"):
        return None
    blocks = tuple(found.get("block_hashes") or ())
    if kind == "BlockStored":
        tokens = tuple(found.get("token_ids") or ())
        size = int(found.get("block_size") or 0)
        return KvEvent("stored", blocks, found.get("parent_block_hash"), tokens, size, found.get("lora_name"))
    if kind == "BlockRemoved":
        return KvEvent("removed", blocks)
    return KvEvent("cleared") if kind == "AllBlocksCleared" else None
