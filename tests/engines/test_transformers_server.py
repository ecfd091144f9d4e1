"""The server of transformers for real: a tiny model that the test makes, on the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Place
from skerry.model.service import EngineName, ServiceSpec
from skerry.model.weights import ModelCard
from tests.engines.packages import folder_of
from tests.engines.replica_process import Caller, free_port, running

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # the first time its packages are fetched
MAKE = """
import sys, torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate([*letters, "<end>"])}, []))
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
fast.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\\n{% endfor %}<assistant>"
fast.save_pretrained(sys.argv[1])
torch.manual_seed(1)
config = LlamaConfig(vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, max_position_embeddings=256, eos_token_id=256, bos_token_id=256)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
"""
MESSAGES = [{"role": "user", "content": "Who sees the tide?"}]
CARD = ModelCard(
    template="{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]",
    system="Be brief.",
    parameters={"temperature": 0, "num_predict": 24},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """As in a replica: the command and the variables of the engine, the packages where an image has them."""
    site = folder_of("torch==2.13.0", "transformers")
    model = tmp_path_factory.mktemp("models") / "tiny"
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MAKE, str(model)], env=paths, check=True, timeout=300)
    spec = ServiceSpec(engine=EngineName.TRANSFORMERS, port=free_port(), models=["tiny"])
    place = Place(model=str(model), card=CARD)
    launch = ENGINES[EngineName.TRANSFORMERS].launch(spec, place, "tiny")
    with running(launch, model.parent / "log", paths) as caller:
        yield caller


def test_a_chat_whole_and_as_a_stream_say_the_same(server: Caller) -> None:
    wish = {"messages": MESSAGES, "ignore_eos": True}  # what it does not say is in the model's card
    whole = server.json("/v1/chat/completions", wish)
    assert whole["usage"]["completion_tokens"] == 24
    assert whole["usage"]["prompt_tokens"] == len("[system]Be brief.\n[user]Who sees the tide?\n[assistant]")
    assert whole["choices"][0]["finish_reason"] == "length"
    chunks = server.events("/v1/chat/completions", {**wish, "stream_options": {"include_usage": True}})
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert said == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"] == whole["usage"]
    own = server.json("/v1/chat/completions", {**wish, "messages": [{"role": "system", "content": ""}, *MESSAGES]})
    assert own["usage"]["prompt_tokens"] == len("[system]\n[user]Who sees the tide?\n[assistant]")


def test_completions_stop_seed_and_embeddings(server: Caller) -> None:
    wish = {"prompt": "Low rock", "max_tokens": 40, "seed": 7, "temperature": 1, "ignore_eos": True}
    text = server.json("/v1/completions", wish)["choices"][0]["text"]
    assert server.json("/v1/completions", wish)["choices"][0]["text"] == text
    stop = next(text[at : at + 2] for at in range(8, len(text) - 2) if text.find(text[at : at + 2]) == at)
    ended = server.json("/v1/completions", {**wish, "stop": [stop]})
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["choices"][0]["text"] == text[: text.find(stop)]
    chunks = server.events("/v1/completions", {**wish, "stop": [stop]})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == ended["choices"][0]["text"]
    vectors = [one["embedding"] for one in server.json("/v1/embeddings", {"input": ["a", "b", "a"]})["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-3)
    assert b"skerry_engine_requests_running 0" in server.ask("/metrics")


def test_what_is_wrong_is_said(server: Caller) -> None:
    chat = {"model": "tiny", "messages": MESSAGES}
    assert server.refused("/v1/chat/completions", {**chat, "max_tokens": 1000})[0] == 400
    assert server.refused("/v1/chat/completions", {**chat, "model": "x"}) == (404, "The model `x` does not exist.")
    assert server.refused("/v1/chat/completions", {**chat, "temperature": 9})[1].startswith("temperature: ")
    assert server.refused("/v1/completions", {"prompt": [1, 999_999]}) == (500, "the model failed")
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert "text only" in server.refused("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]})[1]
