"""safetensors as GGUF: every number is there, as its type keeps it; what cannot be converted is told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.agent.images.progress import Step
from skerry.agent.models.convert.safetensors import Refused, read_header
from skerry.agent.models.convert.vocabulary import read_vocabulary
from skerry.errors import Invalid
from skerry.model.weights import GgufType, ModelFormat
from tests.agent import tiny_llama
from tests.agent.models_world import Machine

pytestmark = pytest.mark.anyio
gguf: Any = pytest.importorskip("gguf")


def numbers(path: Path) -> tuple[dict[str, Any], Any]:
    reader = gguf.GGUFReader(path)
    found = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    return found, reader


@pytest.mark.parametrize(("kind", "error_max"), [(GgufType.F32, 0.0), (GgufType.Q8_0, 2e-3)])
async def test_a_llama_of_safetensors_as_gguf(tmp_path: Path, kind: GgufType, error_max: float) -> None:
    machine = Machine(tmp_path)
    tensors = tiny_llama.write(machine.shared / "tiny")
    await machine.have(str(machine.shared / "tiny"))
    made = await machine.have("model://tiny", 2, base="mod-000000000001", convert=kind)
    assert (made.card.format, made.card.main, made.card.architecture) == (ModelFormat.GGUF, "model.gguf", "llama")
    assert machine.told[-1][0] is Step.CONVERT
    assert machine.left() == []
    found, reader = numbers(machine.store.path("mod-000000000002") / "model.gguf")
    assert len(found) == len(tensors)
    for theirs, ours in (("token_embd", "model.embed_tokens"), ("blk.1.ffn_down", "model.layers.1.mlp.down_proj")):
        assert np.abs(found[f"{theirs}.weight"] - tensors[f"{ours}.weight"]).max() <= error_max
    width = tiny_llama.HIDDEN // tiny_llama.HEADS
    query = tensors["model.layers.0.self_attn.q_proj.weight"][width : 2 * width]  # of the second head
    turned = found["blk.0.attn_q.weight"][width : 2 * width]
    assert np.abs(turned[0::2] - query[: width // 2]).max() <= error_max
    assert np.abs(turned[1::2] - query[width // 2 :]).max() <= error_max
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert (fields["llama.attention.head_count_kv"], fields["llama.block_count"]) == (2, 2)
    assert fields["tokenizer.ggml.tokens"][-3:] == ["hello", "<s>", "</s>"]
    assert fields["tokenizer.ggml.merges"][0] == "h e"
    assert (fields["tokenizer.ggml.pre"], fields["tokenizer.ggml.bos_token_id"]) == ("gpt-2", 260)


async def test_what_cannot_be_converted_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    tiny_llama.write(machine.shared / "tiny")
    config = machine.shared / "tiny/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["GPT2LMHeadModel"]}))
    await machine.have(str(machine.shared / "tiny"))
    with pytest.raises(Invalid, match="its architecture is GPT2LMHeadModel; LlamaForCausalLM"):
        await machine.have("model://tiny", 2, base="mod-000000000001", convert=GgufType.F16)
    (machine.shared / "none").mkdir()
    (machine.shared / "none/x.gguf").write_bytes(b"GGUF")
    await machine.have(str(machine.shared / "none"), 3)
    with pytest.raises(Invalid, match="no safetensors"):
        await machine.have("model://none", 4, base="mod-000000000003", convert=GgufType.F16)
    assert machine.left() == []


def header(tmp_path: Path, text: str, more: bytes = b"") -> Path:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + more)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}',
        '{"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "I4", "shape": [2], "data_offsets": [0, 8]}}',
        '{"a": {"shape": [2]}}',
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refused):
        read_header(header(tmp_path, text, b"12345678"))


def test_numbers_of_every_type(tmp_path: Path) -> None:
    for kind, raw in (("F32", "<f4"), ("F16", "<f2"), ("F64", "<f8")):
        data = np.array([[1.5, -2.0]], dtype=raw)
        entry = {"a": {"dtype": kind, "shape": [1, 2], "data_offsets": [0, data.nbytes]}}
        assert read_header(header(tmp_path, json.dumps(entry), data.tobytes()))[0].read().tolist() == [[1.5, -2.0]]
    half = (np.array([1.5, -2.0], dtype=np.float32).view(np.uint32) >> 16).astype("<u2")
    entry = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    assert read_header(header(tmp_path, json.dumps(entry), half.tobytes()))[0].read().tolist() == [1.5, -2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_pieces_with_scores(tmp_path: Path) -> None:
    """As of Llama 2: bytes that stand for themselves, and the earlier merged the better."""
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": "<unk>",
        "vocab": {"<unk>": 0, "<0x41>": 1, "a": 2, "b": 3, "ab": 4, "abb": 5},
        "merges": [["a", "b"], ["ab", "b"]],
    }
    added = [{"id": 6, "content": "<s>", "special": True}, {"id": 7, "content": "name", "special": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": added}))
    found = read_vocabulary(tmp_path, 9)
    assert found.model == "llama"
    assert found.types == [2, 6, 1, 1, 1, 1, 3, 4, 5]
    assert found.scores is not None
    assert found.scores[4] > found.scores[5] > found.scores[2]
    with pytest.raises(Refused, match="has a token 7"):
        read_vocabulary(tmp_path, 7)
