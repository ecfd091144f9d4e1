"""Text as tokens without a tokenizer: what is asked as a chain of block hashes, what is answered from a few words.

A token is at most four letters with the space before them. The same text is the same tokens wherever it stands, so that
an answer that comes back in the next prompt is found in the cache.
"""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast

from skerry.engines.simulator.profile import BLOCK_TOKENS

VOCABULARY = 128_000
IMAGE_TOKENS = 256
DEPTH_MAX = 8
PIECE = re.compile(r"\s?[^\s]{1,4}|\s")
WORDS = (
    " the", " tide", " runs", " out", " past", " low", " rock", " and", " kelp", " at", " dawn", " a", " seal", " sees",
    " gull", " rise", " over", " gray", " sand", " cold", " wind", " from", " west", " rain", " then", " calm", " sky",
    " bell", " rang", " far", " off", " boat",
)  # fmt: skip


def tokens(text: str) -> list[int]:
    return [zlib.crc32(piece.encode()) % VOCABULARY for piece in PIECE.findall(text)]


def mark(name: str) -> int:
    return VOCABULARY + zlib.crc32(name.encode()) % 256


def chat_tokens(body: dict[str, Any]) -> list[int]:
    """Of `messages` and `tools`, up to where the answer begins."""
    found: list[int] = []
    if body.get("tools"):
        found += [mark("tools"), *tokens(json.dumps(body["tools"], sort_keys=True))]
    for message in cast("list[dict[str, Any]]", body["messages"]):
        found.append(mark(str(message.get("role"))))
        found += _content(message.get("content"))
        if message.get("tool_calls"):
            found += tokens(json.dumps(message["tool_calls"], sort_keys=True))
        found.append(mark("end"))
    found.append(mark("assistant"))
    return found


def _content(content: Any) -> list[int]:
    if isinstance(content, str):
        return tokens(content)
    found: list[int] = []
    for part in cast("list[Any]", content) if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):  # pyright: ignore[reportUnknownMemberType]
            found += tokens(part["text"])  # pyright: ignore[reportUnknownArgumentType]
        else:
            found += [zlib.crc32(json.dumps(part, sort_keys=True).encode()) % VOCABULARY] * IMAGE_TOKENS
    return found


def chain(found: Sequence[int], salt: str = "") -> list[int]:
    """The hash of each whole block together with all before it."""
    hashes: list[int] = []
    before = salt.encode()
    data = array("I", found).tobytes()
    size = BLOCK_TOKENS * 4
    for at in range(0, len(data) - size + 1, size):
        before = blake2b(before + data[at : at + size], digest_size=8).digest()
        hashes.append(int.from_bytes(before, "big"))
    return hashes


def draw(found: Sequence[int], seed: int) -> int:
    """A number that is the same for the same prompt and seed."""
    return int.from_bytes(
        blake2b(array("I", found).tobytes(), digest_size=8, salt=seed.to_bytes(8, "big")).digest(), "big"
    )


def words(number: int, count: int) -> list[str]:
    """An answer of so many tokens, each a piece of text."""
    pieces: list[str] = []
    for at in range(count):
        number = (number * 6364136223846793005 + 1442695040888963407) % 2**64
        word = WORDS[number >> 59]
        pieces.append(word[1:].capitalize() if at == 0 else word)
    return pieces


def cut(text: str) -> list[str]:
    """Text that must be answered as it is, as tokens."""
    return PIECE.findall(text)


def example(schema: Any, depth: int = 0) -> Any:
    """A value that a JSON schema allows, near enough: for arguments of tools and answers that must be JSON."""
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return "tide"
    known = cast("dict[str, Any]", schema)
    for fixed in ("const", "default"):
        if fixed in known:
            return known[fixed]
    if known.get("enum"):
        return known["enum"][0]
    for union in ("anyOf", "oneOf"):
        if known.get(union):
            return example(known[union][0], depth + 1)
    kind: Any = known.get("type")
    if isinstance(kind, list) and kind:
        return example({**known, "type": cast("list[Any]", kind)[0]}, depth)
    if kind == "object" or "properties" in known:
        properties = cast("dict[str, Any]", known.get("properties") or {})
        wanted = known.get("required") or list(properties)
        return {name: example(properties.get(name, {}), depth + 1) for name in wanted}
    if kind == "array":
        return [example(known.get("items", {}), depth + 1)] * max(1, int(known.get("minItems", 1)))
    return {"integer": known.get("minimum", 1), "number": known.get("minimum", 1.5), "boolean": True, "null": None}.get(
        str(cast("object", kind)), "tide"
    )
