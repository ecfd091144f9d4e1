"""A tokenizer.json as GGUF wants it: tokens with their types and scores, and how text is cut before it is merged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.agent.models.convert.safetensors import Refused

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
BYTES_MAX = 64 * 1024 * 1024
_CUTS = {
    # What is distinctive of the expression by which text is cut -> its name in llama.cpp.
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"\p{N}{1,3}"): "llama-bpe",
    (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"|\p{N}|"): "qwen2",
}


@dataclass(frozen=True)
class Vocabulary:
    model: str
    """llama: by scores; gpt2: by merges."""
    cut: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """`size`: how many the model knows, which may be more than are used."""
    path = folder / "tokenizer.json"
    if not path.is_file() or path.stat().st_size > BYTES_MAX:
        raise Refused("it has no tokenizer.json, from which its tokens are read")
    found: dict[str, Any] = json.loads(path.read_bytes())
    model: dict[str, Any] = found["model"]
    if model.get("type") != "BPE":
        raise Refused(f"its tokenizer is of type {str(model.get('type'))[:40]}; BPE can be converted")
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    for text, number in model["vocab"].items():
        _within(number, size)
        tokens[number], types[number] = text, BYTE if _BYTE.fullmatch(text) else NORMAL
    more: list[dict[str, Any]] = found.get("added_tokens") or []
    for added in more:
        _within(added["id"], size)
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added.get("special") else USER_DEFINED
    if not model.get("byte_fallback"):
        return Vocabulary("gpt2", _cut(found.get("pre_tokenizer")), tokens, types, None)
    unknown = model["vocab"].get(model.get("unk_token"))
    if unknown is not None:
        types[unknown] = UNKNOWN
    return Vocabulary("llama", "default", tokens, types, _scores(model, tokens))


def _within(number: int, size: int) -> None:
    if not 0 <= number < size:
        raise Refused(f"its tokenizer has a token {number}, and the model knows {size}")


def _scores(model: Mapping[str, Any], tokens: list[str]) -> list[float]:
    """The earlier two pieces are merged, the higher is the score of what comes of it."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        ranks.setdefault(left + right, rank)
    last = float(len(ranks))
    return [-float(ranks[token]) if token in ranks else -last for token in tokens]


def _cut(pre: Any) -> str:
    given: dict[str, Any] = pre or {}
    steps: list[dict[str, Any]] = given.get("pretokenizers", []) if given.get("type") == "Sequence" else [given]
    patterns: list[str] = [str(step["pattern"].get("Regex", "")) for step in steps if step.get("type") == "Split"]
    kinds = {step.get("type") for step in steps}
    for parts, name in _CUTS.items():
        if any(all(part in pattern for part in parts) for pattern in patterns):
            return name
    if kinds == {"ByteLevel"}:
        return "gpt-2"
    if kinds == {"Digits", "ByteLevel"}:
        return "smollm"
    raise Refused(
        "its tokenizer cuts text in a way that is not known here; llama 3's, Qwen 2's, GPT-2's and SmolLM's are"
    )
