"""SGLang: `sglang.launch_server`, with its radix cache and KV events in vLLM's form."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from skerry.engines import cards
from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.kv_events import PORT
from skerry.engines.launching import launch, model_of, names, no_roles
from skerry.engines.options import Count, EngineOptions, Json, Share, Text, from_env, gpus, ranks, read
from skerry.engines.vllm import events_config
from skerry.errors import Invalid
from skerry.model.service import EngineName, ServiceSpec

IMAGE = "lmsysorg/sglang:latest"
HTTP_PORT = 9001


class SglangOptions(EngineOptions):
    # The model.
    tokenizer_path: Text | None = None
    tokenizer_mode: Literal["auto", "slow"] | None = None
    load_format: Text | None = None
    trust_remote_code: bool | None = None
    """Run code that comes with the model."""
    context_length: Count | None = None
    """Tokens of prompt and answer together."""
    is_embedding: bool | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: Text | None = None
    kv_cache_dtype: Text | None = None
    revision: Text | None = None
    json_model_override_args: Json | None = None
    # Memory and what it does at once.
    mem_fraction_static: Share | None = None
    """Share of a device's memory for weights and cache."""
    max_running_requests: Count | None = None
    max_total_tokens: Count | None = None
    chunked_prefill_size: Annotated[int, Field(ge=-1)] | None = None
    max_prefill_tokens: Count | None = None
    schedule_policy: (
        Literal[
            "lpm", "random", "fcfs", "dfs-weight", "lof", "priority", "routing-key", "hrrn", "shortest-prefill-first"
        ]
        | None
    ) = None
    schedule_conservativeness: Annotated[float, Field(gt=0)] | None = None
    page_size: Count | None = None
    disable_radix_cache: bool | None = None
    enable_hierarchical_cache: bool | None = None
    hicache_ratio: Annotated[float, Field(gt=0)] | None = None
    # Devices.
    tp_size: Count | None = None
    """None: as many as the replica has devices."""
    pp_size: Count | None = None
    dp_size: Count | None = None
    ep_size: Count | None = None
    attn_dp_size: Count | None = None
    # Adapters.
    max_loras_per_batch: Count | None = None
    max_loaded_loras: Count | None = None
    max_lora_rank: Count | None = None
    lora_backend: Text | None = None
    # The API.
    chat_template: Text | None = None
    tool_call_parser: Text | None = None
    reasoning_parser: Text | None = None
    enable_cache_report: bool | None = None
    """Tell of each answer how much of its prompt was in the cache. On unless false."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    # Kernels and more.
    attention_backend: Text | None = None
    sampling_backend: Text | None = None
    grammar_backend: Text | None = None
    cuda_graph_backend_decode: Literal["full", "breakable", "disabled"] | None = None
    cuda_graph_backend_prefill: Literal["full", "breakable", "disabled"] | None = None
    cuda_graph_max_bs_decode: Count | None = None
    enable_torch_compile: bool | None = None
    random_seed: int | None = None
    watchdog_timeout: Annotated[float, Field(gt=0)] | None = None
    speculative_algorithm: Text | None = None
    speculative_draft_model_path: Text | None = None
    speculative_num_steps: Count | None = None
    speculative_eagle_topk: Count | None = None
    speculative_num_draft_tokens: Count | None = None
    kv_events_config: Json | None = None
    """None: over ZMQ at port 5557."""


class SglangEngine:
    name = EngineName.SGLANG
    options = SglangOptions
    metrics = Metrics(
        path="/metrics",
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        cache_use="sglang:token_usage",
        prefix_hits="sglang:cached_tokens_total",
        prefix_queries="sglang:prompt_tokens_total",
        prompt_tokens="sglang:prompt_tokens_total",
        generation_tokens="sglang:generation_tokens_total",
    )
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS, Capability.RERANK, Capability.RESPONSES,
         Capability.LORA, Capability.KV_EVENTS}
    )  # fmt: skip
    slots = Slots("max_running_requests", ranks="dp_size")
    events_port: int | None = PORT

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        no_roles(place, self.name)  # its own flow of prefill and decode is not one that the gateway speaks
        env = from_env(spec, "SGLANG")
        defaults: dict[str, Any] = {
            "quantization": env["quantization"],
            "tp_size": env["tp"] or (gpus(spec) if gpus(spec) > 1 and not env["pp"] else None),
            "pp_size": env["pp"],
            "extra_args": env["extra_args"],
            "context_length": cards.numbers(place.card, {"num_ctx": "context_length"}).get("context_length"),
            "enable_cache_report": True,
            "kv_events_config": json.dumps(events_config(), separators=(",", ":")),
        }
        if {"pp_size", "pp-size"} & set(spec.options):
            defaults["tp_size"] = env["tp"]
        options = read(SglangOptions, spec, defaults)
        ranks(spec, "tp_size", options.tp_size, options.pp_size)
        port = spec.port or HTTP_PORT
        served = names(spec, name)
        if len(served) > 1:
            raise Invalid("models: engine sglang serves under one name", field="models")
        command = ("python3", "-m", "sglang.launch_server", "--model-path", model_of(place, self.name))
        command += ("--served-model-name", *served, "--host", "0.0.0.0", "--port", str(port), "--enable-metrics")
        command += options.flags(negate=False)
        if spec.adapters:
            command += ("--enable-lora", "--lora-paths", *(f"{n}={path}" for n, path in place.adapters.items()))
        text = None if options.chat_template is not None else cards.template(place.card)
        command, more = cards.with_template(command, "--chat-template", text)
        return launch(spec, place, name, image=IMAGE, command=command, port=port, health="/health", env=more)
