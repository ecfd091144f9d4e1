"""How the rate of arrivals changes over time: constant, ramps, steps, waves over it.

Arrivals of a process with a changing rate are those of one with rate 1, in a time that runs as fast as the rate says:
the n-th comes when the integral of the rate reaches the n-th arrival of the other (time rescaling; Brown et al., Neural
Computation 14, 2002). So shapes and processes combine freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GRID_S = 0.01
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """From one rate to another, linearly, in so many seconds."""

    seconds: float
    start: float
    end: float


@dataclass(frozen=True)
class Wave:
    """Over the stages: the rate times 1 + `depth` * sin, every `period_s`."""

    period_s: float
    depth: float


@dataclass(frozen=True)
class Shape:
    stages: Sequence[Stage]
    wave: Wave | None = None

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def integral(self) -> tuple[Floats, Floats]:
        """Moments, and how many are due until each."""
        moments = np.linspace(0.0, self.seconds, max(2, round(self.seconds / GRID_S) + 1))
        ends = np.cumsum([0.0, *(stage.seconds for stage in self.stages)])
        rates = np.zeros_like(moments)
        for stage, since, until in zip(self.stages, ends[:-1], ends[1:], strict=True):
            inside = (moments >= since) & (moments <= until)
            share = (moments[inside] - since) / max(stage.seconds, 1e-9)
            rates[inside] = stage.start + (stage.end - stage.start) * share
        if self.wave is not None:
            rates = rates * np.maximum(0.0, 1 + self.wave.depth * np.sin(2 * np.pi * moments / self.wave.period_s))
        steps = (rates[1:] + rates[:-1]) / 2 * np.diff(moments)
        return moments, np.concatenate(([0.0], np.cumsum(steps)))


def arrivals(shape: Shape, burstiness: float | None, chance: np.random.Generator) -> Floats:
    """Seconds, ascending. `burstiness`: None evenly spaced; 1 Poisson; the shape of a gamma distribution, less than 1
    burstier, more than 1 calmer (as in vLLM's `--burstiness`)."""
    moments, due = shape.integral()
    total = float(due[-1])
    if burstiness is None:
        ideal = np.arange(0.0, total, 1.0)
    else:
        ideal = np.empty(0)
        while not len(ideal) or ideal[-1] < total:
            gaps = chance.gamma(burstiness, 1 / burstiness, size=max(64, int(total * 1.1)))
            ideal = np.concatenate((ideal, (ideal[-1] if len(ideal) else 0.0) + np.cumsum(gaps)))
        ideal = ideal[ideal < total]
    return np.interp(ideal, due, moments)
