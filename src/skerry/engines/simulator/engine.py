"""The simulator as an engine of a service: the same server in a sandbox, for tests and for capacity planning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skerry.engines import carried
from skerry.engines.contract import Capability, Launch, Metrics, Place, Slots
from skerry.engines.kv_events import PORT, REPLAY_PORT
from skerry.engines.launching import launch, names
from skerry.engines.options import Count, EngineOptions, Text, read
from skerry.engines.simulator.profile import SEQUENCES_AT_ONCE
from skerry.engines.vllm import VllmEngine
from skerry.model.service import EngineName, ServiceSpec

IMAGE = "python:3.11-slim"
HTTP_PORT = 8000
Seconds = Annotated[float, Field(ge=0, le=3600)]


class SimulatorOptions(EngineOptions):
    speed: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """So many times as fast as a real engine."""
    load_s: Seconds | None = None
    """Until it is healthy."""
    seed: Annotated[int, Field(ge=0)] | None = None
    fault: Text | None = None
    """From the start: KIND:name=value,... of refuse, error, hang, break, slow, unhealthy."""
    blocks: Count | None = None
    """Of KV cache, of 16 tokens each."""
    sequences: Count | None = None
    """Answers at once, vLLM's max_num_seqs."""
    batch_tokens: Count | None = None
    """In one step, vLLM's max_num_batched_tokens."""
    model_tokens: Count | None = None
    """Of prompt and answer together, vLLM's max_model_len."""
    no_prefix_cache: bool | None = None
    step_s: Seconds | None = None
    """A step takes so long,"""
    prefill_s: Seconds | None = None
    """so much more for each token of prompts computed in it,"""
    attention_s: Seconds | None = None
    """and for each pair of such a token and one before it,"""
    sequence_s: Seconds | None = None
    """and for each answer that gets a token,"""
    context_s: Seconds | None = None
    """and for each token of context of those answers."""
    adapters: Count | None = None
    """In one step, vLLM's max_loras."""
    adapters_kept: Count | None = None
    adapter_load_s: Seconds | None = None
    adapter_swap_s: Seconds | None = None
    transfer_s: Seconds | None = None
    transfer_token_s: Seconds | None = None
    hold_s: Seconds | None = None
    slowness: Annotated[float, Field(gt=0, le=10_000)] | None = None


class SimulatorEngine:
    name = EngineName.SIMULATOR
    options = SimulatorOptions
    metrics: Metrics = VllmEngine.metrics
    capabilities = frozenset(
        {Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS, Capability.LORA, Capability.ROLES,
         Capability.SLEEP, Capability.KV_EVENTS}
    )  # fmt: skip
    slots = Slots("sequences", SEQUENCES_AT_ONCE)
    events_port: int | None = PORT

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        options = read(SimulatorOptions, spec)
        port = spec.port or HTTP_PORT
        arguments = ["--port", str(port), "--address", "auto"]
        arguments += ["--events-port", str(PORT), "--replay-port", str(REPLAY_PORT)]
        for served in names(spec, name):
            arguments += ["--model", served]
        for adapter in spec.adapters:
            arguments += ["--adapter", adapter]
        command = carried.command("skerry.engines.simulator.__main__", *arguments, *options.flags(negate=False))
        env = {carried.VARIABLE: carried.code(carried.SIMULATOR_FILES)}
        return launch(spec, place, name, image=IMAGE, command=command, port=port, health="/health", env=env)
