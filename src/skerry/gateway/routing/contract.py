"""What a policy sees of a request and of replicas, and what it answers. Pure: time and chance are given.

A policy is told of every request that was routed and how it went, so that it may learn; it never asks anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BLOCK_TOKENS = 16
"""Tokens of one block of KV cache, as engines have it by default (vLLM: 16)."""


@dataclass(slots=True)
class Candidate:
    """A replica that may be given the request. The gateway keeps one object for each and changes its numbers."""

    id: str
    weight: float = 1.0
    role: str = "both"
    in_flight: int = 0
    """Requests there now, by this gateway; with those of others where they are known."""
    prefill_tokens: int = 0
    """Of prompts that were sent there and have no first token yet, less what `Choice.matched_blocks` said is cached."""
    decode_tokens: int = 0
    """Tokens of context of the answers being generated: what each step must read."""
    waiting: int = 0
    """Requests in the engine's own queue, when it was last asked."""
    running: int = 0
    cache_use: float = 0.0
    adapters: frozenset[str] = frozenset()
    """Loaded there, when it was last asked."""
    prefill_s_per_token: float = 0.0
    """As observed; 0: not known."""
    decode_s_per_token: float = 0.0
    cache_blocks: int = 0
    """Blocks of KV cache that it has; 0: not known."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as far as routing goes."""

    blocks: Sequence[int]
    """Hash of each whole block of the prompt together with all before it, so that equal means an equal prefix. How
    long each is stands in `spans`. Empty where there is no prompt to speak of."""
    prompt_tokens: int
    """Counted or estimated."""
    answer_tokens: int = 0
    """Expected; 0: not known."""
    session: str = ""
    adapter: str = ""
    client: str = ""
    ttft_s: float = 0.0
    """Objective; 0: none."""


@dataclass(frozen=True, slots=True)
class Choice:
    at: int
    """Index in the candidates."""
    why: str
    """A few words for the header that explains it, such as `prefix 12/14 blocks, 3 in flight`."""
    matched_blocks: int = 0
    """Of the prompt, that are cached where it is computed, as far as the policy knows."""
    prefill_at: int = -1
    """Where the prompt is computed first, for prefill and decode apart; -1: where it is answered."""


class Policy(Protocol):
    name: str

    def pick(self, ask: Ask, candidates: Sequence[Candidate], now_s: float) -> Choice:
        """At least one candidate. Deterministic for the seed it was made with and what it has been told."""
        ...

    def routed(self, ask: Ask, replica: str, now_s: float) -> None:
        """It was sent there, right after `pick`. The same object comes again with `ended`."""
        ...

    def began(self, ask: Ask, replica: str, ttft_s: float, now_s: float) -> None:
        """Its first token came, so long after `routed`."""
        ...

    def ended(self, ask: Ask, replica: str, ok: bool, ttft_s: float | None, now_s: float) -> None:
        """Once for each `routed`. `ttft_s`: as `began` had it, where there was a first token."""
        ...

    def stored(self, replica: str, ask: Ask) -> None:
        """The engine published that it keeps the prompt now, which may have been pushed out since it was routed."""
        ...

    def removed(self, replica: str, blocks: Sequence[int]) -> None:
        """The engine published that it does not keep these any more."""
        ...

    def cleared(self, replica: str) -> None:
        """It has been started again, or keeps nothing any more."""
        ...

    def gone(self, replica: str) -> None:
        """Forget what it had."""
        ...
