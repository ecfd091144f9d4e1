"""What every routing policy must promise: a small world of replicas and requests, and the promises as functions of it.

A policy is driven by `drive`, which keeps the books that the gateway would keep.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skerry.gateway.routing.contract import Ask, Candidate, Choice, Policy
from skerry.gateway.routing.spans import SIZES, tokens_of

Make = Callable[[int], Policy]


def candidates(
    count: int, weights: Sequence[float] | None = None, roles: Sequence[str] | None = None
) -> list[Candidate]:
    return [
        Candidate(f"r{at}", weights[at] if weights else 1.0, role=roles[at] if roles else "both") for at in range(count)
    ]


def asks(seed: int, count: int, conversations: int = 12, adapters: int = 0) -> list[Ask]:
    """Conversations that grow, some of which begin alike."""
    chance = random.Random(seed)
    histories = [[conversation % 3, 100 + conversation % 3] for conversation in range(conversations)]
    made: list[Ask] = []
    for number in range(count):
        which = chance.randrange(conversations)
        histories[which].extend(chance.getrandbits(60) for _ in range(chance.randrange(1, 6)))
        blocks = tuple(histories[which][: len(SIZES)])
        adapter = f"a{which % adapters}" if adapters else ""
        made.append(Ask(blocks, tokens_of(len(blocks)) + number % 16, session=f"s{which}", adapter=adapter, ttft_s=1.0))
    return made


@dataclass
class Flight:
    ask: Ask
    at: Candidate
    choice: Choice
    sent_s: float


def _begin(flight: Flight, sign: int) -> None:
    flight.at.in_flight += sign
    flight.at.prefill_tokens += sign * (flight.ask.prompt_tokens - tokens_of(flight.choice.matched_blocks))


def drive(
    policy: Policy, fleet: Sequence[Candidate], work: Sequence[Ask], at_once: int, shuffled: int | None = None
) -> list[str]:
    """Ids picked, each request ending when `at_once` others have come. `shuffled`: candidates come in another order
    each time."""
    chance = None if shuffled is None else random.Random(shuffled)
    flying: list[Flight] = []
    picked: list[str] = []
    for number, ask in enumerate(work):
        shown = list(fleet)
        if chance:
            chance.shuffle(shown)
        choice = policy.pick(ask, shown, float(number))
        assert 0 <= choice.at < len(shown)
        assert -1 <= choice.prefill_at < len(shown)
        assert 0 <= choice.matched_blocks <= len(ask.blocks)
        assert choice.why
        assert len(choice.why) < 120
        assert choice.why.isprintable()
        flight = Flight(ask, shown[choice.at], choice, float(number))
        policy.routed(ask, flight.at.id, float(number))
        _begin(flight, 1)
        flying.append(flight)
        picked.append(flight.at.id)
        if len(flying) > at_once:
            _end(policy, flying.pop(0), float(number))
    for flight in flying:
        _end(policy, flight, float(len(work)))
    assert all(candidate.in_flight == 0 and candidate.prefill_tokens == 0 for candidate in fleet)
    return picked


def _end(policy: Policy, flight: Flight, now_s: float) -> None:
    _begin(flight, -1)
    policy.began(flight.ask, flight.at.id, 0.01 + 1e-5 * flight.ask.prompt_tokens, now_s)
    policy.ended(flight.ask, flight.at.id, True, 0.01 + 1e-5 * flight.ask.prompt_tokens, now_s)


def shares(make: Make, weights: Sequence[float], work: Sequence[Ask], at_once: int) -> list[float]:
    fleet = candidates(len(weights), weights)
    counted = Counter(drive(make(1), fleet, work, at_once))
    return [counted[candidate.id] / len(work) for candidate in fleet]


def without_prompts(work: Sequence[Ask]) -> list[Ask]:
    """Each a stranger: nothing in common, no session."""
    return [replace(ask, blocks=(), session="") for ask in work]


def mentioned(value: Any, names: set[str], place: str = "") -> list[str]:
    """Where in a policy's memory one of these names still is."""
    if isinstance(value, str):
        return [place] if value in names else []
    if isinstance(value, Mapping):
        found = value.items()
        return [it for key, kept in found for part in (key, kept) for it in mentioned(part, names, f"{place}[{key!r}]")]
    if isinstance(value, list | tuple | set | frozenset):
        return [it for part in value for it in mentioned(part, names, f"{place}[]")]
    if hasattr(value, "__dict__") and type(value).__module__.startswith("skerry"):
        return [it for key, kept in vars(value).items() for it in mentioned(kept, names, f"{place}.{key}")]
    return []
