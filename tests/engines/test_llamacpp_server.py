"""llama.cpp for real: a tiny GGUF that the test makes, on the processor, where this machine has a `llama-server`.

No registry that tests reach has it built for Linux, and to compile it takes longer than all tests together.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Place
from skerry.model.service import EngineName, ServiceSpec
from tests.engines.packages import folder_of
from tests.engines.replica_process import Caller, running

pytestmark = pytest.mark.system
MAKE = """
import sys, numpy, gguf
writer = gguf.GGUFWriter(sys.argv[1], "llama")
size, heads, context = 64, 2, 256
letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
letters = [chr(at) for at in letters] + [chr(256 + at) for at in range(256 - len(letters))]
tokens = [*letters, "th", "<end>"]
writer.add_context_length(context); writer.add_embedding_length(size); writer.add_block_count(1)
writer.add_feed_forward_length(size); writer.add_head_count(heads); writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-5); writer.add_rope_dimension_count(size // heads); writer.add_vocab_size(len(tokens))
writer.add_tokenizer_model("gpt2"); writer.add_tokenizer_pre("gpt-2"); writer.add_token_list(tokens)
writer.add_token_types([1] * (len(tokens) - 1) + [3]); writer.add_token_merges(["t h"])
writer.add_eos_token_id(len(tokens) - 1); writer.add_bos_token_id(len(tokens) - 1); writer.add_add_bos_token(False)
draw = numpy.random.default_rng(1)
add = lambda name, *shape: writer.add_tensor(name, draw.normal(0, 0.1, shape).astype(numpy.float32))
ones = lambda name: writer.add_tensor(name, numpy.ones(size, numpy.float32))
add("token_embd.weight", len(tokens), size); add("output.weight", len(tokens), size); ones("output_norm.weight")
ones("blk.0.attn_norm.weight"); ones("blk.0.ffn_norm.weight")
for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
    add(f"blk.0.{name}.weight", size, size)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    found = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if found is None:
        pytest.skip("there is no llama-server on PATH, nor does LLAMA_SERVER name one")
    folder = tmp_path_factory.mktemp("models")
    paths = {"PATH": f"{Path(found).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder_of("gguf"))}
    command = [sys.executable, "-c", MAKE, str(folder / "tiny.gguf")]
    subprocess.run(command, env=paths, check=True, timeout=60)
    options = {"ctx-size": 512, "parallel": 2, "threads": 1, "chat-template": "chatml", "warmup": False}
    spec = ServiceSpec(engine=EngineName.LLAMACPP, port=18_766, models=["tiny"], options=options)
    launch = ENGINES[EngineName.LLAMACPP].launch(spec, Place(model=str(folder)), "tiny")
    with running(launch, folder / "log", paths) as caller:
        yield caller


def test_it_answers_under_its_name_and_counts(server: Caller) -> None:
    assert server.json("/v1/models")["data"][0]["id"] == "tiny"
    wish = {"messages": [{"role": "user", "content": "Who sees the tide?"}], "max_tokens": 12, "temperature": 0}
    whole = server.json("/v1/chat/completions", {**wish, "ignore_eos": True})
    assert whole["usage"]["completion_tokens"] == 12
    usage = {"include_usage": True}
    chunks = server.events("/v1/chat/completions", {**wish, "ignore_eos": True, "stream_options": usage})
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    assert said[:2] == whole["choices"][0]["message"]["content"][:2]  # half characters are left out of a stream
    assert chunks[-1]["usage"]["completion_tokens"] == 12
    metrics = ENGINES[EngineName.LLAMACPP].metrics
    text = server.ask(metrics.path).decode()
    for name in (metrics.running, metrics.waiting, metrics.prompt_tokens, metrics.generation_tokens):
        assert f"\n{name} " in text
