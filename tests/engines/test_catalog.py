"""Each engine's command line as it was looked up, and what all engines promise."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from typing import Any

import pytest
from pydantic import TypeAdapter

from skerry.engines import cards, carried
from skerry.engines.catalog import ENGINES
from skerry.engines.contract import Capability, Launch, Place
from skerry.engines.slots import slots
from skerry.errors import Invalid
from skerry.model.service import EngineName, Role, ServiceSpec
from skerry.model.weights import ModelCard

EVENTS = (
    '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558",'
    '"topic":"kv-events"}'
)
SECRET = {"name": "ngc", "env": "NGC_API_KEY"}
NEEDS: dict[EngineName, dict[str, Any]] = {
    EngineName.COMMAND: {"image": "debian:12", "port": 80},
    EngineName.NIM: {"image": "nvcr.io/nim/meta/llama-3.1-8b-instruct", "secrets": [SECRET]},
}
MODEL = Place(model="/models/tide")


def launch(name: EngineName, place: Place = MODEL, **spec: Any) -> Launch:
    return ENGINES[name].launch(spec_of(name, **spec), place, "tide")


def spec_of(name: EngineName, **spec: Any) -> ServiceSpec:
    return ServiceSpec(**{"engine": name, **NEEDS.get(name, {}), **spec})


def line(name: EngineName, place: Place = MODEL, **spec: Any) -> list[str]:
    command = launch(name, place, **spec).command
    assert command is not None
    return list(command)


def test_vllm() -> None:
    assert line(EngineName.VLLM, options={"max-model-len": 8192, "enforce_eager": True, "async-scheduling": False}) == [
        *("vllm", "serve", "/models/tide", "--host", "0.0.0.0", "--port", "8000", "--served-model-name", "tide"),
        *("--max-model-len", "8192", "--enforce-eager", "--no-async-scheduling", "--enable-prompt-tokens-details"),
        *("--kv-events-config", EVENTS),
    ]
    four = line(EngineName.VLLM, gpu=4, models=["a", "b"])
    assert four[four.index("--tensor-parallel-size") + 1] == "4"
    assert four[four.index("--served-model-name") + 1 :][:2] == ["a", "b"]
    lora = launch(
        EngineName.VLLM,
        Place(model="/models/tide", adapters={"pirate": "/adapters/pirate"}),
        adapters={"pirate": "/adapters/pirate"},
    )
    assert lora.command is not None
    assert lora.command[-3:] == ("--enable-lora", "--lora-modules", "pirate=/adapters/pirate")
    assert lora.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    sleep = launch(EngineName.VLLM, options={"enable_sleep_mode": True})
    assert sleep.env["VLLM_SERVER_DEV_MODE"] == "1"


def test_vllm_apart() -> None:
    prefill = launch(EngineName.VLLM, Place(model="/models/tide", role=Role.PREFILL))
    assert prefill.command is not None
    assert prefill.command[:2] == ("/bin/sh", "-c")
    at = prefill.command.index("--kv-transfer-config")
    assert json.loads(prefill.command[at + 1]) == {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
    decode = line(EngineName.VLLM, Place(model="/models/tide", role=Role.DECODE))
    assert json.loads(decode[decode.index("--kv-transfer-config") + 1])["kv_role"] == "kv_consumer"
    assert prefill.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5600"


def test_backend_ai_variables_are_options() -> None:
    env = {"VLLM_QUANTIZATION": "fp8", "VLLM_TP_SIZE": "2", "VLLM_PP_SIZE": "2", "VLLM_EXTRA_ARGS": "--foo 'a b'"}
    found = line(EngineName.VLLM, env=env)
    assert found[-2:] == ["--foo", "a b"]
    for flag, value in (("quantization", "fp8"), ("tensor-parallel-size", "2"), ("pipeline-parallel-size", "2")):
        assert found[found.index(f"--{flag}") + 1] == value
    assert "--tp-size" in line(EngineName.SGLANG, env={"SGLANG_TP_SIZE": "2"})


def test_sglang() -> None:
    found = line(EngineName.SGLANG, gpu=2, options={"mem-fraction-static": 0.8, "disable_radix_cache": False})
    assert found == [
        *("python3", "-m", "sglang.launch_server", "--model-path", "/models/tide", "--served-model-name", "tide"),
        *("--host", "0.0.0.0", "--port", "9001", "--enable-metrics", "--mem-fraction-static", "0.8", "--tp-size", "2"),
        *("--enable-cache-report", "--kv-events-config", EVENTS.replace('"enable_kv_cache_events":true,', "")),
    ]
    adapters = {"pirate": "/adapters/pirate"}
    lora = line(EngineName.SGLANG, Place(model="/m", adapters=adapters), adapters=adapters)
    assert lora[-3:] == ["--enable-lora", "--lora-paths", "pirate=/adapters/pirate"]


def test_llamacpp() -> None:
    found = line(EngineName.LLAMACPP, options={"ctx-size": 4096, "jinja": True, "warmup": False, "n-gpu-layers": "all"})
    assert found[3:] == [
        *("sh", "/models/tide", "--alias", "tide", "--host", "0.0.0.0", "--port", "8080", "--metrics"),
        *("--ctx-size", "4096", "--n-gpu-layers", "all", "--jinja", "--no-warmup"),
    ]
    assert launch(EngineName.LLAMACPP, gpu=1).image.endswith("server-cuda")


def test_nim() -> None:
    found = launch(
        EngineName.NIM, options={"max_model_len": 4096, "disable_cuda_graph": True, "extra_args": "--seed 7"}
    )
    assert found.command is None
    assert found.env == {
        "BACKEND_MODEL_NAME": "tide",
        "BACKEND_MODEL_PATH": "/models/tide",
        "HF_HOME": "/models/tide",
        "NIM_CACHE_PATH": "/models/tide",
        "NIM_SERVER_PORT": "8000",
        "NIM_SERVED_MODEL_NAME": "tide",
        "NIM_MAX_MODEL_LEN": "4096",
        "NIM_DISABLE_CUDA_GRAPH": "1",
        "NIM_PASSTHROUGH_ARGS": "--seed 7",
    }


def test_transformers() -> None:
    found = line(EngineName.TRANSFORMERS, options={"batch": 4, "trust-remote-code": True})
    assert found[3:] == [
        *("skerry.engines.transformers.__main__", "--model", "/models/tide", "--port", "8000", "--name", "tide"),
        *("--batch", "4", "--trust-remote-code"),
    ]


CARD = ModelCard(
    template="{{ messages[0].content }}",
    system="Be brief.",
    parameters={
        "temperature": 0.2,
        "repeat_penalty": 1.1,
        "num_ctx": 4096,
        "num_predict": -1,
        "stop": ["x"],
        "odd": "a",
    },
)
BEFORE = (
    "{%- if messages[0]['role'] != 'system' -%}{%- set messages = [{'role': 'system', 'content': \"Be brief.\"}]"
    " + messages -%}{%- endif -%}"
)


@pytest.mark.parametrize(
    ("name", "words", "flag", "before"),
    [
        (
            EngineName.VLLM,
            [
                *("--max-model-len", "4096", "--override-generation-config"),
                '{"temperature":0.2,"repetition_penalty":1.1}',
            ],
            "--chat-template",
            BEFORE,
        ),
        (EngineName.SGLANG, ["--context-length", "4096"], "--chat-template", BEFORE),
        (
            EngineName.LLAMACPP,
            ["--ctx-size", "4096", "--jinja", "--temp", "0.2", "--repeat-penalty", "1.1"],
            "--chat-template-file",
            BEFORE,
        ),
        (
            EngineName.TRANSFORMERS,
            ["--defaults", '{"temperature":0.2,"stop":["x"]}', "--system", "Be brief.", "--max-model-len", "4096"],
            "--chat-template",
            "",
        ),
    ],
)
def test_what_the_card_of_a_model_says(name: EngineName, words: list[str], flag: str, before: str) -> None:
    found = launch(name, Place(model="/m", card=CARD))
    assert found.command is not None
    assert [word for word in found.command if word in words] == words
    assert found.command[2:5] == (cards.WRITE, "sh", flag)
    assert found.env[cards.VARIABLE] == before + "{{ messages[0].content }}"
    own = launch(name, Place(model="/m", card=CARD), options={"chat_template": "/mine"})
    assert cards.VARIABLE not in own.env
    theirs = launch(name, Place(model="/m", card=ModelCard(template="{{ if .System }}{{ .System }}{{ end }}")))
    assert cards.VARIABLE not in theirs.env, "ollama's language is not Jinja"
    with pytest.raises(Invalid, match="120000 bytes"):
        launch(name, Place(model="/m", card=ModelCard(template="{% x %}" * 20_000)))


@pytest.mark.parametrize("name", EngineName)
def test_every_engine_is_here_and_keeps_its_promises(name: EngineName) -> None:
    engine = ENGINES[name]
    assert engine.name is name
    found = launch(name, port=4321)
    assert found.port == 4321
    assert found.command is None or "4321" in found.command or name is EngineName.COMMAND
    assert found.env["BACKEND_MODEL_NAME"] == "tide"
    assert found.env["BACKEND_MODEL_PATH"] == "/models/tide"
    assert launch(name, models=["named"]).env["BACKEND_MODEL_NAME"] == "named"
    assert (found.health is None) == (name is EngineName.COMMAND)
    assert launch(name, health={"path": "/own"}).health.path == "/own"  # type: ignore[union-attr]
    own = launch(name, image="mine:1", command=["serve", "me"])
    assert (own.image, own.command) == ("mine:1", ("serve", "me"))
    assert launch(name, port=4321) == found, "the same spec is the same launch, so that no new revision is made of it"
    assert (engine.events_port is not None) == (Capability.KV_EVENTS in engine.capabilities)
    assert (engine.metrics.running != "") == (engine.metrics.path != "")
    for value in (*found.env.values(), *(found.command or ())):
        assert len(value) < 131_072
    for option, field in engine.options.model_fields.items():
        assert option.islower(), field


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        (EngineName.VLLM, {}, 0),
        (EngineName.VLLM, {"options": {"max-num-seqs": 64}}, 64),
        (EngineName.VLLM, {"options": {"max_num_seqs": "64", "data-parallel-size": 2}}, 128),
        (EngineName.VLLM, {"options": {"max-num-seqs": 64, "extra_args": "--max-num-seqs 8"}}, 0),
        (EngineName.VLLM, {"options": {"max-num-seqs": 64}, "env": {"VLLM_EXTRA_ARGS": "--max_num_seqs=8"}}, 0),
        (EngineName.VLLM, {"options": {"max-num-seqs": 64}, "command": ["serve"]}, 0),
        (EngineName.SGLANG, {"options": {"max-running-requests": 32}}, 32),
        (EngineName.LLAMACPP, {"options": {"parallel": 4}}, 4),
        (EngineName.TRANSFORMERS, {}, 8),
        (EngineName.SIMULATOR, {"options": {"sequences": 3}}, 3),
        (EngineName.COMMAND, {}, 0),
    ],
)
def test_how_many_requests_are_answered_at_once_is_in_its_options(
    name: EngineName, given: dict[str, Any], wanted: int
) -> None:
    assert slots(ENGINES[name], spec_of(name, **given)) == wanted


@pytest.mark.parametrize("name", EngineName)
@pytest.mark.parametrize(
    ("spec", "place", "field"),
    [
        ({"options": {"no-such": 1}}, MODEL, "options.no_such"),
        ({"options": {"extra_args": "'open"}}, MODEL, "options.extra_args"),
        ({"adapters": {"a": "/a"}}, Place(model="/m", adapters={"a": "/a"}), "adapters"),
        ({}, Place(model="/m", role=Role.DECODE), "roles"),
        ({}, Place(model=None), "model"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_with_the_field(
    name: EngineName, spec: dict[str, Any], place: Place, field: str
) -> None:
    can = ENGINES[name].capabilities
    if (field == "adapters" and Capability.LORA in can) or (field == "roles" and Capability.ROLES in can):
        launch(name, place, **spec)
        return
    if field == "model" and name in (EngineName.COMMAND, EngineName.NIM, EngineName.SIMULATOR):
        launch(name, place, **spec)  # it needs none
        return
    with pytest.raises(Invalid) as caught:
        launch(name, place, **spec)
    assert caught.value.field == field
    assert caught.value.say.startswith(field)
    assert "\n" not in caught.value.say


@pytest.mark.parametrize(
    ("name", "spec", "say"),
    [
        (EngineName.VLLM, {"options": {"dtype": "int4"}}, "options.dtype"),
        (EngineName.VLLM, {"options": {"max-num-seq": 4}}, "did you mean max_num_seqs?"),
        (EngineName.VLLM, {"options": {"gpu_memory_utilization": 9}}, "options.gpu_memory_utilization: 9"),
        (EngineName.VLLM, {"options": {"speculative_config": "{"}}, "expected JSON"),
        (EngineName.VLLM, {"options": {"max_lora_rank": 12}}, "options.max_lora_rank"),
        (EngineName.VLLM, {"options": {"max_num_partial_prefills": 2}}, "options.max_num_partial_prefills"),
        (EngineName.SGLANG, {"options": {"cuda_graph_max_bs": 8}}, "did you mean cuda_graph_max_bs_decode?"),
        (EngineName.NIM, {"options": {"log_level": "TRACE"}}, "options.log_level"),
        (EngineName.VLLM, {"gpu": 2, "options": {"tensor_parallel_size": 4}}, "4 devices would be used"),
        (EngineName.NIM, {"secrets": []}, "NGC_API_KEY"),
        (EngineName.NIM, {"env": {"NGC_API_KEY": "x"}}, "by a secret"),
        (EngineName.SGLANG, {"models": ["a", "b"]}, "one name"),
    ],
)
def test_bad_options(name: EngineName, spec: dict[str, Any], say: str) -> None:
    with pytest.raises(Invalid, match=say):
        launch(name, **spec)


def test_options_have_a_schema_for_help() -> None:
    for engine in ENGINES.values():
        TypeAdapter(engine.options).json_schema()


async def _free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        return int(server.sockets[0].getsockname()[1])


def test_the_simulator_runs_from_what_is_carried_with_nothing_but_python() -> None:
    """As in a sandbox: an interpreter without our package or any other, the code in a variable."""
    port = asyncio.run(_free_port())
    found = launch(EngineName.SIMULATOR, port=port, options={"speed": 100})
    assert found.command is not None
    arguments = [argument.replace("5557", "0").replace("5558", "0") for argument in found.command[1:]]
    environment = {"PATH": os.environ["PATH"], **found.env}
    command = ["python3", "-I", "-S", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "simulator of tide" in process.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=30) as answer:
                assert json.load(answer)["data"][0]["id"] == "tide"
        finally:
            process.terminate()
    assert len(found.env[carried.VARIABLE]) < 60_000
