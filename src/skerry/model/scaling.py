"""When a service gets more replicas, or fewer: what a user may declare."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from skerry.model.fields import Duration, Frozen

REPLICAS_MAX = 1024
TARGETS_MAX = 16
SCHEDULES_MAX = 32
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Signal(StrEnum):
    """What a target is compared with: the mean over replicas, but for what says otherwise."""

    IN_FLIGHT = "in-flight"  # requests being answered or waiting for a replica
    QUEUE = "queue"  # requests that wait, in the gateway and in engines that tell
    TOKENS = "tokens-per-second"  # generated
    TTFT = "ttft"  # seconds to the first token, p95 over all
    TPOT = "tpot"  # seconds between tokens, p95 over all
    CACHE = "cache"  # share of the engine's KV cache in use, 0 to 1
    GPU = "gpu"  # share of its accelerators in use, 0 to 1
    CPU = "cpu"  # cores in use
    CUSTOM = "custom"  # a metric of the engine's /metrics, by name; of a counter, how much it grows in a second


OF_ENGINES = frozenset({Signal.QUEUE, Signal.CACHE, Signal.CUSTOM})
"""Gateways read them of each replica."""
OF_MACHINES = frozenset({Signal.CPU, Signal.GPU})
"""Agents tell them."""
CUSTOM_PREFIX = f"{Signal.CUSTOM.value}:"


class Target(Frozen):
    signal: Signal
    value: Annotated[float, Field(gt=0)]
    """What one replica should have, or the objective not to be exceeded."""
    metric: Annotated[str, Field(max_length=256, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")] | None = None
    """Of `custom`."""

    @model_validator(mode="after")
    def _names_its_metric(self) -> Target:
        if (self.signal is Signal.CUSTOM) != (self.metric is not None):
            raise ValueError("metric: goes with signal custom, and custom needs it")
        return self

    @property
    def key(self) -> str:
        """Under which it is told what replicas have: `cpu`, or `custom:` and the metric's name."""
        return self.signal.value if self.metric is None else CUSTOM_PREFIX + self.metric


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError("expected a time of day such as 08:30")
    return value


def _days(days: list[str]) -> list[str]:
    for day in days:
        if day not in DAYS:
            raise ValueError(f"{day[:20]!r}: expected one of {', '.join(DAYS)}")
    return days


TimeOfDay = Annotated[str, AfterValidator(_clock)]
Count = Annotated[int, Field(ge=0, le=REPLICAS_MAX)]


class Schedule(Frozen):
    """At least and at most so many between two times of day, UTC; over midnight where `until` is before `since`."""

    since: TimeOfDay
    until: TimeOfDay
    days: Annotated[list[str], Field(min_length=1, max_length=7), AfterValidator(_days)] = list(DAYS)
    minimum: Count | None = None
    maximum: Count | None = None


class Scaling(Frozen):
    minimum: Count = 1
    """0: none at all where nobody asked for `idle`; who asks then is held while one wakes."""
    maximum: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] = 8
    targets: Annotated[list[Target], Field(max_length=TARGETS_MAX)] = [Target(signal=Signal.IN_FLIGHT, value=8)]
    """The one that wants most decides."""
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.1
    """A wish that is nearer to what is there than this share changes nothing."""
    window: Annotated[Duration, Field(ge=1, le=3600)] = 30.0
    """Seconds over which signals are averaged before there are more."""
    panic_window: Annotated[Duration, Field(ge=1, le=600)] = 6.0
    panic_at: Annotated[float, Field(ge=1, le=100)] = 2.0
    """So many times of what is there wanted over the short window: panic, in which there are never fewer."""
    down_after: Annotated[Duration, Field(ge=0, le=86_400)] | None = None
    """The largest wish of this time decides before there are fewer, and at most half of them go at once. None: six
    times as long as a new replica takes to start, from 1 to 15 minutes: so much is worth keeping what may be wanted
    again."""
    up_at_most: Annotated[float, Field(gt=1, le=1000)] = 4.0
    """So many times as many in one step, and at least one more."""
    idle: Annotated[Duration, Field(ge=1, le=604_800)] = 300.0
    """Without a request for so long, those of `minimum: 0` go to zero."""
    predict: bool = False
    """Scale on what the trend says is wanted when a new replica could be ready, if that is more."""
    schedules: Annotated[list[Schedule], Field(max_length=SCHEDULES_MAX)] = []

    @model_validator(mode="after")
    def _least_is_not_most(self) -> Scaling:
        if self.minimum > self.maximum:
            raise ValueError("minimum: at most as many as maximum")
        if not self.targets:
            raise ValueError("targets: give at least one")
        return self
