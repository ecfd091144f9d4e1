"""llama.cpp for real, on the processor: a tiny model, converted by our own program, behind the server of `xllamacpp`.

Nothing that tests reach has `llama-server` built for Linux, and compiling it takes longer than all tests together; this
package has the same server in it, and the engine starts it where the program is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skerry
from skerry.engines import llamacpp_wheel
from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Place
from skerry.engines.llamacpp import LlamacppOptions
from skerry.model.service import EngineName, ServiceSpec
from skerry.model.weights import ModelCard
from tests.agent import tiny_llama
from tests.engines.packages import folder_of
from tests.engines.replica_process import Caller, free_port, running

pytestmark = pytest.mark.timeout(600)  # the first time its package is fetched
PACKAGE = "xllamacpp==2026.10.11549"
VALUES = {
    "host": "127.0.0.1", "n-gpu-layers": "all", "split-mode": "row", "tensor-split": "3,1", "flash-attn": "off",
    "cache-type-k": "q8_0", "cache-type-v": "f16", "numa": "distribute", "rope-scaling": "yarn", "pooling": "mean",
    "reasoning-format": "deepseek-legacy", "alias": "a,b", "chat-template-file": "/dev/null",
}  # fmt: skip
SET_ALL = """
import json, sys, xllamacpp
from skerry.engines.llamacpp_wheel import SETTINGS, SWITCHES
params = xllamacpp.CommonParams()
for name, setting in (SETTINGS | SWITCHES).items():
    setting(xllamacpp, params, json.loads(sys.argv[1]).get(name, "2"))
assert (params.n_ctx, params.n_gpu_layers, params.tensor_split[:3]) == (2, -2, [3, 1, 0])
assert params.pooling_type is xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
assert (params.sampling.temp, params.sampling.user_sampling_config, params.cpuparams.n_threads) == (2, 334, 2)
"""
CARD = ModelCard(
    template="{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}[assistant]",
    system='Be "brief",\nsays \u00e9t\u00e9.',
    parameters={"temperature": 0, "num_ctx": 512, "num_predict": 12},
)
LAUNCHED = ("model", "alias", "host", "port", "metrics")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("models")
    tiny_llama.write(folder / "source")
    convert = [sys.executable, "-m", "skerry.agent.models.convert.program", str(folder / "source")]
    subprocess.run([*convert, str(folder / "tiny.gguf"), "f32"], check=True, timeout=200, capture_output=True)
    site = folder_of(PACKAGE)
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(site)}
    options = {"parallel": 2, "threads": 1, "warmup": False}
    spec = ServiceSpec(engine=EngineName.LLAMACPP, port=free_port(), models=["tiny", "small"], options=options)
    launch = ENGINES[EngineName.LLAMACPP].launch(spec, Place(model=str(folder), card=CARD), "tiny")
    with running(launch, folder / "log", paths) as caller:
        yield caller


@pytest.mark.system
def test_it_answers_under_its_name_and_counts(server: Caller) -> None:
    assert set(server.json("/v1/models")["data"][0]["aliases"]) == {"tiny", "small"}
    wish = {"messages": [{"role": "user", "content": "Who sees the tide?"}], "ignore_eos": True}
    whole = server.json("/v1/chat/completions", wish)
    assert whole["usage"]["completion_tokens"] == 12
    usage = {"include_usage": True}
    chunks = server.events("/v1/chat/completions", {**wish, "stream_options": usage})
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    assert said[:2] == whole["choices"][0]["message"]["content"][:2]  # half characters are left out of a stream
    assert chunks[-1]["usage"]["completion_tokens"] == 12
    metrics = ENGINES[EngineName.LLAMACPP].metrics
    text = server.ask(metrics.path).decode()
    for name in (metrics.running, metrics.waiting, metrics.prompt_tokens, metrics.generation_tokens):
        assert f"\n{name} " in text


@pytest.mark.system
def test_the_card_of_its_model_counts(server: Caller) -> None:
    asked = {"messages": [{"role": "user", "content": "Who?"}]}
    begun = f"[system]{CARD.system}\n"
    assert server.json("/apply-template", asked)["prompt"] == begun + "[user]Who?\n[assistant]"
    own = {"messages": [{"role": "system", "content": "Sing."}, *asked["messages"]]}
    assert server.json("/apply-template", own)["prompt"] == "[system]Sing.\n[user]Who?\n[assistant]"
    told = server.json("/props")["default_generation_settings"]
    assert told["params"]["temperature"] == 0
    assert told["n_ctx"] == 256, "of each of two at once"


@pytest.mark.system
def test_the_package_has_all_that_is_set() -> None:
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder_of(PACKAGE)}:{Path(skerry.__file__).parent.parent}"}
    subprocess.run([sys.executable, "-c", SET_ALL, json.dumps(VALUES)], env=paths, check=True, timeout=200)


def test_its_server_of_the_package_takes_every_option() -> None:
    options = {name.replace("_", "-") for name in LlamacppOptions.model_fields} - {"extra-args"}
    assert {*llamacpp_wheel.SETTINGS, *llamacpp_wheel.SWITCHES} == options | set(LAUNCHED)
    assert llamacpp_wheel.parse(["--model", "/m", "--no-warmup", "--jinja", "--top-k", "4"]) == {
        "model": "/m",
        "warmup": "",
        "jinja": "yes",
        "top-k": "4",
    }
