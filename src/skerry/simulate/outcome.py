"""What a replay leaves behind, from which all figures and pictures are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.simulate.fairness import Fairness
from skerry.simulate.series import Series
from skerry.simulate.trace import NOTHING, Arrival, Totals


@dataclass(slots=True)
class Life:
    """Of one arrival."""

    arrival: Arrival
    first_start_s: float | None = None
    last_start_s: float | None = None
    end_s: float | None = None
    evictions: int = 0
    lost_s: float = 0.0
    """Ran for nothing: it was stopped to make room and began again."""
    never: bool = False
    """No node could have it, however empty."""


@dataclass
class Outcome:
    name: str
    whole: Totals
    lives: list[Life]
    series: Series = field(default_factory=Series)
    fragmentation: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """(moment, share of the free accelerators)."""
    fairness: Fairness = field(default_factory=Fairness)
    passes: int = 0
    starts: int = 0
    backfilled: int = 0
    evictions: int = 0
    waiting_max: int = 0
    last_arrival_s: float | None = None
    used_at_last_arrival: Totals = NOTHING
    used_s_at_last_arrival: Totals = NOTHING
    """Summed up until then, in seconds of each resource."""
    end_s: float = 0.0
