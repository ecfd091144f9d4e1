"""llama.cpp: `llama-server`, for GGUF files, on processors as well as on accelerators.

Where an image has no such program but the Python package `xllamacpp`, which has the same server in it, that one.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field

from skerry.engines import cards, carried
from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.launching import launch, model_of, names, no_adapters, no_roles
from skerry.engines.options import Count, EngineOptions, Text, read
from skerry.model.service import EngineName, ServiceSpec

IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
IMAGE_CUDA = "ghcr.io/ggml-org/llama.cpp:server-cuda"
HTTP_PORT = 8080
FILES = ("skerry/__init__.py", "skerry/engines/__init__.py", "skerry/engines/llamacpp_wheel.py")
WHEEL = carried.command("skerry.engines.llamacpp_wheel")
START = (
    'model=$1; shift; if [ -d "$model" ]; then model=$(ls "$model"/*.gguf | head -n 1); fi; PATH="$PATH:/app"; '
    'if command -v llama-server >/dev/null; then exec llama-server --model "$model" "$@"; fi; '
    f'exec {shlex.join(WHEEL)} --model "$model" "$@"'
)
"""Of a folder its first GGUF file, which is the first part where there are several; in its own image it is in /app."""
PARAMETERS = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "num_ctx": "ctx_size",
    "num_predict": "n_predict",
}
"""Of a card -> of its command line."""
Off = Literal["on", "off", "auto"]


class LlamacppOptions(EngineOptions):
    # What it does at once.
    ctx_size: Annotated[int, Field(ge=0)] | None = None
    """Tokens of prompts and answers of all that are answered at once; 0: as the model says."""
    parallel: Count | None = None
    """Requests that are answered at once."""
    batch_size: Count | None = None
    ubatch_size: Count | None = None
    threads: Count | None = None
    threads_batch: Count | None = None
    cont_batching: bool | None = None
    cache_reuse: Annotated[int, Field(ge=0)] | None = None
    n_predict: Annotated[int, Field(ge=-1)] | None = None
    # Memory and devices.
    n_gpu_layers: Annotated[int, Field(ge=0)] | Literal["auto", "all"] | None = None
    split_mode: Literal["none", "layer", "row", "tensor"] | None = None
    tensor_split: Text | None = None
    main_gpu: Annotated[int, Field(ge=0)] | None = None
    flash_attn: Off | None = None
    cache_type_k: Text | None = None
    cache_type_v: Text | None = None
    numa: Literal["distribute", "isolate", "numactl"] | None = None
    # The model.
    mmproj: Text | None = None
    """The part that sees, in a file of its own."""
    model_draft: Text | None = None
    rope_scaling: Literal["none", "linear", "yarn"] | None = None
    rope_scale: Annotated[float, Field(gt=0)] | None = None
    # The API.
    jinja: bool | None = None
    """The model's own chat template, which tools need."""
    chat_template: Text | None = None
    chat_template_file: Text | None = None
    reasoning_format: Text | None = None
    embeddings: bool | None = None
    """Only embeddings."""
    reranking: bool | None = None
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = None
    warmup: bool | None = None
    # Sampling where a request says nothing.
    temp: Annotated[float, Field(ge=0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0)] | None = None
    seed: int | None = None


class LlamacppEngine:
    name = EngineName.LLAMACPP
    options = LlamacppOptions
    metrics = Metrics(
        path="/metrics",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        prompt_tokens="llamacpp:prompt_tokens_total",
        generation_tokens="llamacpp:tokens_predicted_total",
    )
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS, Capability.RERANK, Capability.RESPONSES}
    )
    slots = Slots("parallel")
    events_port: int | None = None

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        text = cards.template(place.card)
        options = read(
            LlamacppOptions, spec, {**cards.numbers(place.card, PARAMETERS), "jinja": True if text else None}
        )
        no_adapters(spec, self.name)
        no_roles(place, self.name)
        port = spec.port or HTTP_PORT
        command = ("/bin/sh", "-c", START, "sh", model_of(place, self.name), "--alias", ",".join(names(spec, name)))
        command += ("--host", "0.0.0.0", "--port", str(port), "--metrics", *options.flags(negate=True))
        image = IMAGE_CUDA if spec.gpu else IMAGE
        if options.chat_template is not None or options.chat_template_file is not None:
            text = None
        command, more = cards.with_template(command, "--chat-template-file", text)
        env = {carried.VARIABLE: carried.code(FILES), **more}
        return launch(spec, place, name, image=image, command=command, port=port, health="/health", env=env)
