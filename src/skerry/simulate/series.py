"""What was seen over time, kept in a bounded number of samples: when there are too many, every other one is let go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SAMPLES_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Sample:
    moment_s: float
    cpu: float
    memory: float
    gpu: float
    """Shares of the nodes' that are in use."""
    waiting: int
    projects: dict[str, float]
    """Dominant shares."""


@dataclass
class Series:
    samples_max: int = SAMPLES_MAX
    samples: list[Sample] = field(default_factory=list[Sample])
    spacing_s: float = 0.0

    def wants(self, moment_s: float) -> bool:
        return not self.samples or moment_s - self.samples[-1].moment_s >= self.spacing_s

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        if len(self.samples) > self.samples_max:
            span_s = sample.moment_s - self.samples[0].moment_s
            self.samples = self.samples[::2]
            self.spacing_s = 2 * span_s / self.samples_max
