"""A request in the simulated engine, and what the engine tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from skerry.engines.simulator.blocks import Table


class Stage(StrEnum):
    WAITING = "waiting"
    FETCHING = "fetching"  # its prompt's cache comes from another engine
    FETCHED = "fetched"
    PREFILL = "prefill"
    DECODE = "decode"
    HELD = "held"  # done, its cache kept for another engine
    DONE = "done"


@dataclass(slots=True, eq=False)
class Work:
    """What is asked, then what has become of it. The engine alone changes it after it was submitted."""

    id: str
    prompt: int
    """Tokens."""
    answer: int
    """Tokens that it will generate; 0: none, as for embeddings."""
    blocks: Sequence[int] = ()
    """Hashes of the whole blocks of the prompt, each together with all before it, and then of the answer, if known:
    what was generated is found again by a prompt that goes on from it."""
    adapter: str = ""
    priority: int = 0
    """Lower goes first."""
    fetch: bool = False
    """The cache of its prompt comes from another engine (decode)."""
    hold: bool = False
    """Its cache is kept until `release` (prefill)."""

    stage: Stage = Stage.WAITING
    order: int = 0
    arrived_s: float = 0.0
    started_s: float = -1.0
    first_s: float = -1.0
    """Of the first token."""
    ended_s: float = -1.0
    cached: int = 0
    """Tokens of the prompt that were found in the cache, or fetched."""
    preempted: int = 0
    made: int = 0
    """Tokens generated, kept up to date for what the engine tells of; ask the engine between."""
    target: int = 0
    computed: int = 0
    sealed: int = 0
    offset: int = 0
    ends_at: int = -1
    table: Table = field(default_factory=list["int | None"])

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.arrived_s

    @property
    def tpot_s(self) -> float:
        return (self.ended_s - self.first_s) / (self.made - 1) if self.made > 1 else 0.0


class Output(NamedTuple):
    at_s: float
    work: Work
    made: int
    """Tokens generated so far."""
    ended: bool


@dataclass(slots=True)
class Counters:
    finished: int = 0
    aborted: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    """Computed or found, once for each request."""
    generated_tokens: int = 0
    queried_tokens: int = 0
    """Looked for in the prefix cache."""
    hit_tokens: int = 0
    steps: int = 0
