"""vLLM: `vllm serve`, with KV events, adapters, and prefill and decode apart by its NIXL connector."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from skerry.engines import cards
from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.kv_events import PORT, REPLAY_PORT, TOPIC
from skerry.engines.launching import launch, model_of, names
from skerry.engines.options import Count, EngineOptions, Json, Share, Text, from_env, gpus, ranks, read
from skerry.model.service import EngineName, Role, ServiceSpec

IMAGE = "vllm/vllm-openai:latest"
HTTP_PORT = 8000
SIDE_PORT = 5600
OWN_ADDRESS = (
    'export VLLM_NIXL_SIDE_CHANNEL_HOST="${VLLM_NIXL_SIDE_CHANNEL_HOST:-$(hostname -i | cut -d" " -f1)}"; exec "$@"'
)
"""Others fetch its cache from there, and only the replica itself knows its address."""
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "num_predict": "max_new_tokens",
}
"""Of a card -> of generation_config.json."""
KV_ROLES = {Role.PREFILL: "kv_producer", Role.DECODE: "kv_consumer"}


class VllmOptions(EngineOptions):
    # The model.
    tokenizer: Text | None = None
    tokenizer_mode: Text | None = None
    trust_remote_code: bool | None = None
    """Run code that comes with the model."""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    seed: int | None = None
    revision: Text | None = None
    max_model_len: Count | Text | None = None
    """Tokens of prompt and answer together; `auto` for as many as fit."""
    quantization: Text | None = None
    enforce_eager: bool | None = None
    """Without CUDA graphs: starts sooner, answers slower."""
    max_logprobs: Annotated[int, Field(ge=-1)] | None = None
    generation_config: Text | None = None
    override_generation_config: Json | None = None
    enable_sleep_mode: bool | None = None
    """/sleep and /wake_up, which need vLLM's development endpoints: for replicas that only a gateway reaches."""
    runner: Literal["auto", "generate", "pooling", "draft"] | None = None
    convert: Literal["auto", "none", "embed", "classify"] | None = None
    model_impl: Literal["auto", "vllm", "transformers", "terratorch"] | None = None
    hf_overrides: Json | None = None
    # How it is loaded.
    load_format: Text | None = None
    download_dir: Text | None = None
    # Devices.
    tensor_parallel_size: Count | None = None
    """None: as many as the replica has devices."""
    pipeline_parallel_size: Count | None = None
    data_parallel_size: Count | None = None
    enable_expert_parallel: bool | None = None
    distributed_executor_backend: Literal["mp", "ray", "uni", "external_launcher"] | None = None
    disable_custom_all_reduce: bool | None = None
    # The cache.
    block_size: Count | None = None
    gpu_memory_utilization: Share | None = None
    """Share of a device's memory for weights and cache."""
    kv_cache_memory_bytes: Count | Text | None = None
    kv_cache_dtype: Text | None = None
    num_gpu_blocks_override: Count | None = None
    enable_prefix_caching: bool | None = None
    prefix_caching_hash_algo: Literal["sha256", "sha256_cbor", "xxhash", "xxhash_cbor"] | None = None
    cpu_offload_gb: Annotated[float, Field(ge=0)] | None = None
    # What it does at once.
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    long_prefill_token_threshold: Annotated[int, Field(ge=0)] | None = None
    enable_chunked_prefill: bool | None = None
    scheduling_policy: Literal["fcfs", "priority"] | None = None
    async_scheduling: bool | None = None
    # Adapters.
    max_loras: Count | None = None
    """In one step."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    max_cpu_loras: Count | None = None
    fully_sharded_loras: bool | None = None
    # The API.
    chat_template: Text | None = None
    chat_template_content_format: Literal["auto", "string", "openai"] | None = None
    enable_auto_tool_choice: bool | None = None
    tool_call_parser: Text | None = None
    reasoning_parser: Text | None = None
    enable_prompt_tokens_details: bool | None = None
    """Tell of each answer how much of its prompt was in the cache. On unless false."""
    enable_log_requests: bool | None = None
    limit_mm_per_prompt: Json | None = None
    mm_processor_kwargs: Json | None = None
    # More.
    speculative_config: Json | None = None
    compilation_config: Json | None = None
    kv_transfer_config: Json | None = None
    """None: of the NIXL connector where `roles` are given."""
    kv_events_config: Json | None = None
    """None: over ZMQ at port 5557."""


class VllmEngine:
    name = EngineName.VLLM
    options = VllmOptions
    metrics = Metrics(
        path="/metrics",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_use="vllm:kv_cache_usage_perc",
        cache_config="vllm:cache_config_info",
        adapters="vllm:lora_requests_info",
        prefix_hits="vllm:prefix_cache_hits_total",
        prefix_queries="vllm:prefix_cache_queries_total",
        prompt_tokens="vllm:prompt_tokens_total",
        generation_tokens="vllm:generation_tokens_total",
    )
    capabilities = frozenset(Capability)
    slots = Slots("max_num_seqs", ranks="data_parallel_size")
    events_port: int | None = PORT

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        options = _options(spec, place)
        port = spec.port or HTTP_PORT
        command = ("vllm", "serve", model_of(place, self.name), "--host", "0.0.0.0", "--port", str(port))
        command += ("--served-model-name", *names(spec, name), *options.flags(negate=True))
        env: dict[str, str] = {}
        if spec.adapters:
            command += ("--enable-lora", "--lora-modules", *(f"{n}={path}" for n, path in place.adapters.items()))
            env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        if options.enable_sleep_mode:
            env["VLLM_SERVER_DEV_MODE"] = "1"
        command, more = cards.with_template(command, "--chat-template", _template(options, place))
        env |= more
        if place.role is not Role.BOTH:
            env["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(SIDE_PORT)
            command = ("/bin/sh", "-c", OWN_ADDRESS, "sh", *command)
        return launch(spec, place, name, image=IMAGE, command=command, port=port, health="/health", env=env)


def _template(options: VllmOptions, place: Place) -> str | None:
    return None if options.chat_template is not None else cards.template(place.card)


def _options(spec: ServiceSpec, place: Place) -> VllmOptions:
    env = from_env(spec, "VLLM")
    sampled = cards.numbers(place.card, SAMPLING)
    events = {"enable_kv_cache_events": True, **events_config()}
    defaults: dict[str, Any] = {
        "quantization": env["quantization"],
        "tensor_parallel_size": env["tp"] or (gpus(spec) if gpus(spec) > 1 else None),
        "pipeline_parallel_size": env["pp"],
        "extra_args": env["extra_args"],
        "enable_prompt_tokens_details": True,
        "kv_events_config": json.dumps(events, separators=(",", ":")),
        "max_model_len": cards.numbers(place.card, {"num_ctx": "max_model_len"}).get("max_model_len"),
        "override_generation_config": json.dumps(sampled, separators=(",", ":")) if sampled else None,
        "max_loras": min(len(spec.adapters), 8) or None,
    }
    given = {name.lstrip("-").replace("-", "_") for name in spec.options}
    if given & {"pipeline_parallel_size", "data_parallel_size"} or env["pp"]:
        defaults["tensor_parallel_size"] = env["tp"]
    if place.role is not Role.BOTH:
        transfer = {"kv_connector": "NixlConnector", "kv_role": KV_ROLES[place.role]}
        defaults["kv_transfer_config"] = json.dumps(transfer, separators=(",", ":"))
    options = read(VllmOptions, spec, defaults)
    parallel = options.tensor_parallel_size, options.pipeline_parallel_size, options.data_parallel_size
    ranks(spec, "tensor_parallel_size", *parallel)
    return options


def events_config() -> dict[str, str]:
    """Of KV events, as vLLM and SGLang take it."""
    return {
        "publisher": "zmq",
        "endpoint": f"tcp://*:{PORT}",
        "replay_endpoint": f"tcp://*:{REPLAY_PORT}",
        "topic": TOPIC.decode(),
    }
