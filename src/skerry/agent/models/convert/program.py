"""`python -m skerry.agent.models.convert.program FOLDER TARGET TYPE`: safetensors of a Llama-like model as GGUF.

One tensor is in memory at a time. Says `done BYTES` on stderr as it goes; exits with REFUSED and a sentence on stdout
where the model is none that can be converted.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skerry.agent.models.convert.run import REFUSED
from skerry.agent.models.convert.safetensors import Floats, Refused, Tensor, tensors
from skerry.agent.models.convert.vocabulary import read_vocabulary

BLOCK = 32
"""Numbers that share a scale in Q8_0."""
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
SKIPPED = (".rotary_emb.inv_freq", ".attention.bias")
ROPES = ("default", "linear", "llama3")
CONFIG_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A tensor as it will be written."""

    source: Tensor
    name: str
    kind: str
    heads: int | None
    """Into so many halves its rows are sorted anew, as llama.cpp rotates them. None: as they are."""


class Writer:
    def __init__(self, folder: Path, target: Path, kind: str) -> None:
        try:
            import gguf  # imported here: an extra, and only this program needs it
        except ImportError:
            raise Refused("this machine's Skerry lacks the package gguf; install skerry[gguf]") from None
        self._gguf: Any = gguf
        self._folder = folder
        self._target = target
        self._kind = kind
        path = folder / "config.json"
        if not path.is_file() or path.stat().st_size > CONFIG_BYTES_MAX:
            raise Refused("it has no config.json, from which its architecture is read")
        self._config: dict[str, Any] = json.loads(path.read_bytes())
        name = str((self._config.get("architectures") or ["none"])[0])
        if name not in ARCHITECTURES:
            raise Refused(f"its architecture is {name[:60]}; {', '.join(ARCHITECTURES)} can be converted")
        self._architecture = ARCHITECTURES[name]
        self._out: Any = gguf.GGUFWriter(None, self._architecture)

    def write(self) -> None:
        self._describe()
        targets = self._targets()
        for each in targets:
            kind = self._gguf.GGMLQuantizationType[each.kind]
            shape = each.source.shape
            if each.kind == "Q8_0":
                stored = self._gguf.quant_shape_to_byte_shape(shape, kind)
                size_bytes = math.prod(stored)
                self._out.add_tensor_info(each.name, stored, np.dtype(np.uint8), size_bytes, raw_dtype=kind)
            else:
                dtype = np.dtype(np.float32 if each.kind == "F32" else np.float16)
                self._out.add_tensor_info(each.name, shape, dtype, math.prod(shape) * dtype.itemsize, raw_dtype=kind)
        factors = self._rope_factors()
        if factors is not None:
            self._out.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        self._out.write_header_to_file(path=self._target)
        self._out.write_kv_data_to_file()
        self._out.write_ti_data_to_file()
        done_bytes = 0
        for each in targets:
            self._out.write_tensor_data(self._data(each))
            done_bytes += each.source.size_bytes
            sys.stderr.write(f"done {done_bytes}\n")
        if factors is not None:
            self._out.write_tensor_data(factors)
        self._out.close()

    def _data(self, target: Target) -> Any:
        data = target.source.read()
        if target.heads is not None:
            data = _turned(data, target.heads)
        if target.kind == "F16":
            return data.astype(np.float16)
        if target.kind == "Q8_0":
            return self._gguf.quants.quantize(data, self._gguf.GGMLQuantizationType.Q8_0)
        return data

    def _targets(self) -> list[Target]:
        names = self._gguf.get_tensor_name_map(
            next(key for key, name in self._gguf.MODEL_ARCH_NAMES.items() if name == self._architecture),
            int(self._config["num_hidden_layers"]),
        )
        found: list[Target] = []
        for tensor in tensors(self._folder):
            if tensor.name.endswith(SKIPPED):
                continue
            if self._config.get("tie_word_embeddings") and tensor.name == "lm_head.weight":
                continue
            name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise Refused(f"it has a tensor {tensor.name[:80]!r}, which a model of its architecture has not")
            found.append(Target(tensor, name, self._kind_of(tensor), self._heads_of(tensor.name)))
        if not found:
            raise Refused("there are no tensors in it")
        return found

    def _kind_of(self, tensor: Tensor) -> str:
        if len(tensor.shape) < 2 or self._kind == "f32":
            return "F32"
        return "Q8_0" if self._kind == "q8_0" and tensor.shape[-1] % BLOCK == 0 else "F16"

    def _heads_of(self, name: str) -> int | None:
        if self._architecture != "llama":
            return None
        heads = int(self._config["num_attention_heads"])
        if ".q_proj." in name:
            return heads
        return int(self._config.get("num_key_value_heads") or heads) if ".k_proj." in name else None

    def _describe(self) -> None:
        config, out = self._config, self._out
        heads = int(config["num_attention_heads"])
        width = int(config.get("head_dim") or config["hidden_size"] // heads)
        out.add_context_length(int(config["max_position_embeddings"]))
        out.add_embedding_length(int(config["hidden_size"]))
        out.add_block_count(int(config["num_hidden_layers"]))
        out.add_feed_forward_length(int(config["intermediate_size"]))
        out.add_head_count(heads)
        out.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
        out.add_key_length(width)
        out.add_value_length(width)
        out.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
        out.add_rope_dimension_count(width)
        out.add_rope_freq_base(self._rope_base())
        out.add_vocab_size(int(config["vocab_size"]))
        out.add_file_type(
            self._gguf.LlamaFileType[f"MOSTLY_{self._kind.upper()}" if self._kind != "f32" else "ALL_F32"]
        )
        scaling = self._rope()
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind not in ROPES:
            raise Refused(f"its positions are scaled by {str(kind)[:40]}; {', '.join(ROPES)} can be converted")
        if kind == "linear":
            out.add_rope_scaling_type(self._gguf.RopeScalingType.LINEAR)
            out.add_rope_scaling_factor(float(scaling["factor"]))
        self._add_vocabulary(int(config["vocab_size"]))

    def _rope(self) -> dict[str, Any]:
        return self._config.get("rope_scaling") or self._config.get("rope_parameters") or {}

    def _rope_base(self) -> float:
        return float(self._config.get("rope_theta") or self._rope().get("rope_theta") or 10_000.0)

    def _rope_factors(self) -> Floats | None:
        """Llama 3's: long waves are stretched, short ones are not, and those between by degrees."""
        scaling = self._rope()
        if scaling.get("rope_type", scaling.get("type")) != "llama3":
            return None
        config = self._config
        width = int(config.get("head_dim") or config["hidden_size"] // int(config["num_attention_heads"]))
        low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
        length = float(scaling["original_max_position_embeddings"])
        waves = 2 * math.pi * self._rope_base() ** (np.arange(0, width, 2, dtype=np.float32) / width)
        smooth = np.clip((length / waves - low) / (high - low), 0.0, 1.0)
        factor = float(scaling["factor"])
        return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)

    def _add_vocabulary(self, size: int) -> None:
        found = read_vocabulary(self._folder, size)
        self._out.add_tokenizer_model(found.model)
        self._out.add_tokenizer_pre(found.cut)
        self._out.add_token_list(found.tokens)
        self._out.add_token_types(found.types)
        if found.scores is not None:
            self._out.add_token_scores(found.scores)
        special = self._gguf.SpecialVocab(self._folder, load_merges=found.model == "gpt2", n_vocab=size)
        special.add_to_gguf(self._out)


def _turned(data: Floats, heads: int) -> Floats:
    """llama.cpp rotates neighbours, and the files have those that are rotated together half a head apart."""
    halves = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(data.shape))


def main() -> int:
    folder, target, kind = sys.argv[1:4]
    try:
        Writer(Path(folder), Path(target), kind).write()
    except Refused as error:
        sys.stdout.write(f"{error}\n")
        return REFUSED
    except (KeyError, TypeError, ValueError) as error:
        sys.stdout.write(f"its config or its tokenizer is not understood ({type(error).__name__}: {error})\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
