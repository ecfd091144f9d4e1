"""A Llama so small that it is made in the test: random weights, bytes as tokens and a few merges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HIDDEN, HEADS, KV_HEADS, LAYERS, INNER = 64, 4, 2, 2, 96
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]
Tensors = dict[str, NDArray[np.float32]]


def alphabet() -> list[str]:
    """A printable character for each byte, as GPT-2 has it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    more = iter(range(256, 512))
    return [chr(byte if byte in plain else next(more)) for byte in range(256)]


def vocabulary() -> dict[str, int]:
    words = [*alphabet(), *(left + right for left, right in MERGES)]
    return {word: number for number, word in enumerate(words)}


def weights(seed: int = 1) -> Tensors:
    draw = np.random.default_rng(seed)
    size, width = len(vocabulary()) + 2, HIDDEN // HEADS

    def some(*shape: int) -> NDArray[np.float32]:
        return (draw.standard_normal(shape) * 0.08).astype(np.float32)

    found = {"model.embed_tokens.weight": some(size, HIDDEN), "lm_head.weight": some(size, HIDDEN)}
    found["model.norm.weight"] = 1 + some(HIDDEN)
    for number in range(LAYERS):
        block = f"model.layers.{number}."
        for name, rows in (("q", HEADS * width), ("k", KV_HEADS * width), ("v", KV_HEADS * width)):
            found[f"{block}self_attn.{name}_proj.weight"] = some(rows, HIDDEN)
        found[f"{block}self_attn.o_proj.weight"] = some(HIDDEN, HEADS * width)
        for name, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
            found[f"{block}mlp.{name}_proj.weight"] = some(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{block}{name}.weight"] = 1 + some(HIDDEN)
    return found


def write_safetensors(path: Path, tensors: Tensors) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(data.shape), "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data.tobytes() for data in tensors.values()))


def write(folder: Path) -> Tensors:
    folder.mkdir(parents=True, exist_ok=True)
    size = len(vocabulary()) + 2
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": size,
        "bos_token_id": size - 2,
        "eos_token_id": size - 1,
    }
    added = [
        {"id": size - 2, "content": "<s>", "special": True},
        {"id": size - 1, "content": "</s>", "special": True},
    ]
    model = {"type": "BPE", "vocab": vocabulary(), "merges": [" ".join(pair) for pair in MERGES]}
    tokenizer = {"added_tokens": added, "pre_tokenizer": {"type": "ByteLevel"}, "model": model}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    tensors = weights()
    write_safetensors(folder / "model.safetensors", tensors)
    return tensors
