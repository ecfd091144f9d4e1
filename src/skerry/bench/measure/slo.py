"""Objectives such as `ttft_p99<500ms, tpot<50ms`: what a run, or each request, must keep to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skerry.bench.frame import Frame, Mask
from skerry.bench.measure.metrics import ALIASES, NAMES, ONE, values_of, worst_gap
from skerry.errors import Invalid

_FORM = re.compile(r"([a-z0-9_]+?)(?:_(p[0-9]{1,2}(?:\.[0-9]+)?|mean|max))?(<=|<|>=|>|:)([0-9.]+)(ms|s|us|)")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
LOWER_IS_BETTER = ("<", "<=", ":")
ALLOWED = "such as ttft_p99<500ms, tpot_p90<50ms, error_rate<0.01"
RATES = (
    "error_rate",
    "requests_per_second",
    "input_tokens_per_second",
    "output_tokens_per_second",
    "total_tokens_per_second",
    "goodput",
    "goodput_share",
    "cached_share",
    "fairness",
    "cost_per_million_tokens",
    "joules_per_token",
)


@dataclass(frozen=True)
class Objective:
    metric: str
    at: str
    """`p99`, `mean`, `max`; empty: each request by itself."""
    below: bool
    value: float
    """Seconds, tokens, or a share."""
    text: str

    def kept_by(self, frame: Frame) -> Mask:
        """By each. A failed request keeps none; one that has no such value keeps to it."""
        if self.metric in RATES or self.metric == "drift":
            return frame.ok
        found = ONE[self.metric](frame) if self.metric in ONE else worst_gap(frame)
        return frame.ok & (np.isnan(found) | (found <= self.value if self.below else found >= self.value))

    def of(self, frame: Frame, rates: Mapping[str, float]) -> float | None:
        """What a run has; None: nothing was measured."""
        if self.metric in RATES:
            return rates.get(self.metric)
        values = values_of(self.metric, frame)
        if not values.size:
            return None
        match self.at:
            case "mean":
                return float(values.mean())
            case "max":
                return float(values.max())
            case "":
                return float(np.percentile(values, 99))
            case _:
                return float(np.percentile(values, float(self.at[1:])))

    def is_kept(self, frame: Frame, rates: Mapping[str, float]) -> bool:
        found = self.of(frame, rates)
        return found is not None and (found <= self.value if self.below else found >= self.value)


def objectives(text: str, field: str = "slo") -> tuple[Objective, ...]:
    """Raises Invalid."""
    found: list[Objective] = []
    for part in re.split(r"[,\s]+", text.strip()):
        match = _FORM.fullmatch(part)
        name = ALIASES.get(match[1], match[1]) if match else ""
        if match is None or (name not in NAMES and name not in RATES):
            known = ", ".join([*NAMES, *RATES])
            raise Invalid(f"{field}: {part[:60]!r} is not allowed; give {ALLOWED}; known are {known}", field=field)
        seconds = _SECONDS[match[5]] if match[5] else 1e-3 if match[3] == ":" else 1.0
        found.append(Objective(name, match[2] or "", match[3] in LOWER_IS_BETTER, float(match[4]) * seconds, part))
    return tuple(found)
