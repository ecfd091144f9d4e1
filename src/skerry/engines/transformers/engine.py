"""transformers as an engine: our own OpenAI-compatible server inside the replica, for models nothing else serves."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from skerry.engines import cards, carried
from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.launching import launch, model_of, names, no_adapters, no_roles
from skerry.engines.options import Count, EngineOptions, Text, read
from skerry.engines.transformers import ANSWERS_AT_ONCE
from skerry.model.service import EngineName, ServiceSpec

IMAGE = "huggingface/transformers-pytorch-gpu:latest"
HTTP_PORT = 8000
FILES = (
    *carried.SHARED,
    *(f"skerry/engines/transformers/{name}.py" for name in ("__init__", "__main__", "generate", "prompts", "server")),
)


SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "num_predict": "max_tokens",
}
"""Of a card -> of a request."""


class TransformersOptions(EngineOptions):
    dtype: Literal["auto", "float16", "bfloat16", "float32"] | None = None
    device: Text | None = None
    """cpu, cuda, cuda:0; None: an accelerator if there is one."""
    batch: Annotated[int, Field(ge=1, le=256)] | None = None
    """Answers that are generated at once; 8 unless said."""
    waiting: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Requests that wait for that; beyond it 429. 256 unless said."""
    max_model_len: Count | None = None
    """Tokens of prompt and answer together; None: as the model says."""
    threads: Count | None = None
    """Of the processor."""
    trust_remote_code: bool | None = None
    """Run code that comes with the model."""
    chat_template: Text | None = None
    """A file with a Jinja template; None: the model's own."""


class TransformersEngine:
    name = EngineName.TRANSFORMERS
    options = TransformersOptions
    metrics = Metrics(
        path="/metrics",
        running="skerry_engine_requests_running",
        waiting="skerry_engine_requests_waiting",
        prompt_tokens="skerry_engine_prompt_tokens_total",
        generation_tokens="skerry_engine_generation_tokens_total",
    )
    capabilities = frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS})
    slots = Slots("batch", ANSWERS_AT_ONCE)
    events_port: int | None = None

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        options = read(TransformersOptions, spec, cards.numbers(place.card, {"num_ctx": "max_model_len"}))
        no_adapters(spec, self.name)
        no_roles(place, self.name)
        port = spec.port or HTTP_PORT
        arguments = ["--model", model_of(place, self.name), "--port", str(port)]
        for served in names(spec, name):
            arguments += ["--name", served]
        if defaults := _defaults(place):
            arguments += ["--defaults", json.dumps(defaults, separators=(",", ":"))]
        if place.card is not None and place.card.system is not None:
            arguments += ["--system", cards.short("system prompt", place.card.system)]
        command = carried.command("skerry.engines.transformers.__main__", *arguments, *options.flags(negate=False))
        text = None if options.chat_template is not None else cards.template(place.card, system=False)
        command, more = cards.with_template(command, "--chat-template", text)
        env = {carried.VARIABLE: carried.code(FILES), "HF_HUB_OFFLINE": "1", **more}
        return launch(spec, place, name, image=IMAGE, command=command, port=port, health="/health", env=env)


def _defaults(place: Place) -> dict[str, Any]:
    """What a request has that does not say."""
    found: dict[str, Any] = dict(cards.numbers(place.card, SAMPLING))
    if place.card is not None and (stop := place.card.parameters.get("stop")):
        found["stop"] = stop
    return found
