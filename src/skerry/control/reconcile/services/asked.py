"""What is known of a service when it is decided how many replicas it should have. All of it is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from skerry.model.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Moment:
    """Of one service, what one gateway told of the `seconds` before `at_s`."""

    at_s: float
    seconds: float
    in_flight: int
    waiting: int
    arrived: int = 0
    requests: int = 0
    """That ended."""
    errors: int = 0
    tokens: int = 0
    ttft_s: tuple[float, ...] = ()
    tpot_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one service, what a target is compared with as it was at `at_s`, over all replicas that served then."""

    at_s: float
    key: str
    total: float


@dataclass(frozen=True)
class Memory:
    """What is remembered from one decision to the next."""

    wishes: tuple[tuple[float, int], ...] = ()
    """(when, how many) of the last `down_after`."""
    panic_until_s: float = 0.0
    served_s: float | None = None
    """How long a request takes while replicas have no more to do than they should. None: not known yet."""
    ready: int | None = None
    """Replicas there were. None: nothing was decided before."""
    ready_since_s: float = 0.0
    """As many as those."""


@dataclass(frozen=True)
class Asked:
    scaling: Scaling
    history: Sequence[Moment]
    """Oldest first."""
    since_s: float
    """Nothing is known of the time before."""
    current: int
    """Wanted so far."""
    ready: int
    asked_s: float | None
    """When it last had a request."""
    held_s: float | None
    """When somebody was last held because there is no replica."""
    now: datetime
    start_s: float | None = None
    """How long a new replica takes to become healthy. None: there has been none."""
    memory: Memory = field(default_factory=Memory)
    seen: Sequence[Seen] = ()
    """Oldest first, of all keys."""
    unseen: Mapping[str, str] = field(default_factory=dict[str, str])
    """Key -> why nothing is known of it."""
