"""What a prompt is made of, as hashes of its blocks: two prompts have as many hashes in common as they begin alike.

Python's own hash of (all before, this block) is the fastest of what is at hand: 256 blocks of text take 38 us, with
blake2b 119 us. It is keyed anew in each process, so that nobody can make prompts that are taken for one another, and
two gateways cannot compare theirs, which none needs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from skerry.gateway.routing.contract import BLOCK_TOKENS
from skerry.gateway.routing.spans import ENDS, SIZES, whole

TOKEN_CHARS: Final = 4
"""Of a prompt that we have no tokenizer for: English text has about so many bytes to a token."""
BLOCK_BYTES: Final = BLOCK_TOKENS * TOKEN_CHARS
_BOUNDS: Final = tuple(((end - size) * BLOCK_BYTES, end * BLOCK_BYTES) for size, end in zip(SIZES, ENDS, strict=True))


def of_text(text: bytes | str, salt: str = "") -> list[int]:
    """Of each whole block. `salt`: what must be the same for a cache to be of use, such as the adapter."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    last = hash((salt,))
    blocks: list[int] = []
    for start, end in _BOUNDS[: whole(len(data) // BLOCK_BYTES)]:
        last = hash((last, data[start:end]))
        blocks.append(last)
    return blocks


def tokens_in(text: bytes | str) -> int:
    """Estimated."""
    return -(-len(text.encode() if isinstance(text, str) else text) // TOKEN_CHARS)


def of_body(body: Mapping[str, Any]) -> bytes:
    """The prompt of an OpenAI request, as bytes: a conversation that has grown begins with what it was before.

    Only text counts as text. An image or a call of a tool is written down as JSON: what matters is that the same
    comes out the same.
    """
    parts: list[str] = []
    if body.get("tools"):  # templates put them before the first message
        parts.append(_written(body["tools"]))
    messages = body.get("messages", body.get("input"))
    if isinstance(messages, list):
        parts.extend(_message(message) for message in messages)  # pyright: ignore[reportUnknownVariableType]
    elif messages is not None:
        parts.append(messages if isinstance(messages, str) else _written(messages))
    if body.get("instructions"):
        parts.insert(0, str(body["instructions"]))
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        parts.extend(part if isinstance(part, str) else _written(part) for part in prompt)  # pyright: ignore[reportUnknownVariableType]
    elif prompt is not None:
        parts.append(str(prompt))
    return "".join(parts).encode(errors="surrogatepass")


def _message(message: Any) -> str:
    if not isinstance(message, dict):
        return message if isinstance(message, str) else _written(message)
    found = cast("dict[str, Any]", message)
    content = found.get("content")
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)  # pyright: ignore[reportUnknownVariableType]
    more = [_written(found[name]) for name in ("tool_calls", "tool_call_id", "name") if found.get(name)]
    return f"\x02{found.get('role', found.get('type', ''))}\x03{content or ''}{''.join(more)}\x04"


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return text if isinstance(text, str) else _written(part)


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
