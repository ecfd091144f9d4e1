"""NVIDIA NIM: images that bring their server with them, and their model or the way to it."""

from __future__ import annotations

from typing import Literal

from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.launching import launch, names, no_adapters, no_roles
from skerry.engines.options import Count, EngineOptions, Text, read
from skerry.errors import Invalid
from skerry.model.service import EngineName, ServiceSpec
from skerry.model.weights import MODELS_FOLDER

HTTP_PORT = 8000
KEY = "NGC_API_KEY"
VARIABLES = {"extra_args": "NIM_PASSTHROUGH_ARGS"}
"""The image has its own command; since 2.0 it hands these on to vLLM."""


class NimOptions(EngineOptions):
    """Each is the variable NIM_… of the same name; what only NIM 1 knew is given in `env`."""

    model_profile: Text | None = None
    """Which of its builds; `list-model-profiles` in the image tells them."""
    max_model_len: Count | None = None
    tensor_parallel_size: Count | None = None
    pipeline_parallel_size: Count | None = None
    disable_cuda_graph: bool | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None


class NimEngine:
    name = EngineName.NIM
    options = NimOptions
    metrics = Metrics(
        path="/v1/metrics",
        running="num_requests_running",
        waiting="num_requests_waiting",
        cache_use="gpu_cache_usage_perc",
        prompt_tokens="prompt_tokens_total",
        generation_tokens="generation_tokens_total",
    )
    capabilities = frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS, Capability.RERANK})
    slots = Slots()
    events_port: int | None = None

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        """Its folder for downloads is the model's, as in Backend.AI: an empty volume there is filled once."""
        options = read(NimOptions, spec)
        no_adapters(spec, self.name)
        no_roles(place, self.name)
        if spec.image is None:
            raise Invalid("image: engine nim needs one, such as nvcr.io/nim/meta/llama-3.1-8b-instruct", field="image")
        if KEY in spec.env:
            raise Invalid(f"env.{KEY}: give it by a secret, so that nobody reads it", field=f"env.{KEY}")
        if not any(use.env == KEY for use in spec.secrets):
            raise Invalid(f"secrets: engine nim needs {KEY}; give a secret with `env: {KEY}`", field="secrets")
        port, folder = spec.port or HTTP_PORT, place.model or MODELS_FOLDER
        env = {"HF_HOME": folder, "NIM_CACHE_PATH": folder, "NIM_SERVER_PORT": str(port)}
        env["NIM_SERVED_MODEL_NAME"] = ",".join(names(spec, name))
        for option in NimOptions.model_fields:
            if (value := getattr(options, option)) is not None:
                env[VARIABLES.get(option, f"NIM_{option.upper()}")] = (
                    str(int(value)) if isinstance(value, bool) else str(value)
                )
        return launch(spec, place, name, image=spec.image, command=None, port=port, health="/v1/health/ready", env=env)
