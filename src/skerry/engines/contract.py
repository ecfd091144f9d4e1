"""What every engine says of itself. All of it is data or pure: nothing here starts anything.

An engine turns a service's spec into what a sandbox runs, and says how to tell that it is ready, what its metrics are
called, and what it can. The conformance tests over the catalog say when a new one is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from skerry.engines.options import EngineOptions
from skerry.model.service import EngineName, HealthCheck, Role, ServiceSpec
from skerry.model.weights import ModelCard


class Capability(StrEnum):
    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    RESPONSES = "responses"
    AUDIO = "audio"
    LORA = "lora"
    ROLES = "roles"  # prefill and decode apart
    SLEEP = "sleep"  # gives its accelerator's memory back and takes it again when asked
    KV_EVENTS = "kv-events"


@dataclass(frozen=True)
class Metrics:
    """Names in what `path` answers, in Prometheus' text format; empty: it has none."""

    path: str = ""
    running: str = ""
    """Requests being answered."""
    waiting: str = ""
    cache_use: str = ""
    """Share of the KV cache in use, 0 to 1."""
    cache_config: str = ""
    """Its labels `num_gpu_blocks` and `block_size` say how large the KV cache is, as vLLM has it."""
    adapters: str = ""
    """Labels `running_lora_adapters` and `waiting_lora_adapters` name those in use; its value is when that was, as vLLM
    has it, so the row with the greatest one counts."""
    prefix_hits: str = ""
    prefix_queries: str = ""
    prompt_tokens: str = ""
    generation_tokens: str = ""


@dataclass(frozen=True)
class Slots:
    """Where it stands how many requests a replica answers at once."""

    option: str = ""
    """Of the engine's own. Empty: nobody knows."""
    default: int = 0
    """Of that option; 0: it is found out by the engine itself."""
    ranks: str = ""
    """The option that says how many there are with so many each."""


@dataclass(frozen=True)
class Launch:
    """What a replica's sandbox runs."""

    image: str
    command: tuple[str, ...] | None
    """None: the image's own."""
    port: int
    health: HealthCheck | None
    """None: healthy where somebody listens on the port."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Place:
    """Where a replica finds its model and adapters, as paths in its sandbox, and what it is to be."""

    model: str | None
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])
    role: Role = Role.BOTH
    card: ModelCard | None = None
    """What is said of the model. None: nothing is known."""


class Engine(Protocol):
    @property
    def name(self) -> EngineName: ...

    @property
    def options(self) -> type[EngineOptions]:
        """What `options` of a service may have; `skerry service create --help` shows what its fields say."""
        ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def slots(self) -> Slots: ...

    @property
    def events_port(self) -> int | None:
        """Where it publishes KV events, if it does."""
        ...

    def launch(self, spec: ServiceSpec, place: Place, name: str) -> Launch:
        """`name`: the service's. Raises Invalid where the spec asks for what it cannot."""
        ...
