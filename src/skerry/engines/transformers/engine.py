"""transformers as an engine: our own OpenAI-compatible server inside the replica, for models nothing else serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from skerry.engines import carried
from skerry.engines.contract import Capability, Launch, Metrics, Place
from skerry.engines.launching import launch, model_of, names, no_adapters, no_roles
from skerry.engines.options import Count, EngineOptions, Text, read
from skerry.model.service import EngineName, ServiceSpec

IMAGE = "huggingface/transformers-pytorch-gpu:latest"
HTTP_PORT = 8000
FILES = (
    *carried.SHARED,
    *(f"skerry/engines/transformers/{name}.py" for name in ("__init__", "__main__", "generate", "prompts", "server")),
)


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
    events_port: int | None = None

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        options = read(TransformersOptions, spec)
        no_adapters(spec, self.name)
        no_roles(place, self.name)
        port = spec.port or HTTP_PORT
        arguments = ["--model", model_of(place, self.name), "--port", str(port)]
        for served in names(spec, name):
            arguments += ["--name", served]
        command = carried.command("skerry.engines.transformers.__main__", *arguments, *options.flags(negate=False))
        env = {carried.VARIABLE: carried.code(FILES), "HF_HUB_OFFLINE": "1"}
        return launch(spec, place, name, image=IMAGE, command=command, port=port, health="/health", env=env)
