"""What typically is asked for, and tables that tell at once how much of a node is of no use to it.

FGD (Weng et al., "Beware of Fragmentation", USENIX ATC 2023) measures the fragmentation of a node as the GPU capacity
that a typical request could not use, in the mean over typical requests: all of it if the request does not fit the node,
else what is on devices with less room than it asks. Nothing here is measured against each request. For those of one
device the sum falls apart by devices,

    F(node) = G - sum over devices of g * Q(kind, cores free, g) - 1000 * whole * R(kind, cores free, whole)

where Q is how many of the requests fit these cores and that much of a device, R likewise for requests of several whole
devices, and both are read from tables. All numbers are whole, so that every way of computing them agrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import Ints, numbers
from skerry.scheduler.shape import Shape

WEIGHT = 4096
"""All typical requests together."""
COVERED = 0.95
"""Of all requests, the most frequent ones first; the rest is not typical."""
LEVELS_MAX = 128
WIDTH = GPU_MILLI + 1


@dataclass(frozen=True, slots=True, order=True)
class Typical:
    cpu_milli: int
    gpus: int
    milli: int
    kinds: tuple[str, ...]


Demand = tuple[tuple[Typical, int], ...]
"""With weights that sum up to about WEIGHT. Hashable, so that the same demand is seen to be the same."""
NOTHING_KNOWN: Demand = ((Typical(0, 1, GPU_MILLI, ()), WEIGHT),)
"""Keep devices whole."""


def typical(shape: Shape) -> Typical:
    milli = 0 if not shape.gpu_count else shape.gpu_milli if shape.gpu_count == 1 else GPU_MILLI
    return Typical(shape.cpu_milli, shape.gpu_count, milli, tuple(sorted(shape.gpu_kinds)))


def learn(counts: Mapping[Typical, int]) -> Demand:
    """Counts are rounded to powers of 2 ** 0.25: a few more or less do not change what is typical, and with it all
    scores."""
    return weigh({kind: 2 ** (round(4 * math.log2(count)) / 4) for kind, count in counts.items() if count > 0})


def weigh(counts: Mapping[Typical, float]) -> Demand:
    total = sum(counts.values())
    if not any(kind.gpus for kind in counts):
        return NOTHING_KNOWN
    chosen: dict[Typical, float] = {}
    covered = 0.0
    for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= total * COVERED:
            break
        covered += count
        chosen[kind] = count
    whole = sum(chosen.values())
    weights = {kind: max(1, round(WEIGHT * count / whole)) for kind, count in chosen.items()}
    return tuple(sorted(weights.items()))


class Tables:
    def __init__(self, demand: Demand, kinds: Sequence[str], devices_max: int) -> None:
        self.levels = _levels([kind.cpu_milli for kind, _ in demand if kind.gpus])
        """Free cores, in steps that make a difference to somebody."""
        self.level_count = len(self.levels) + 1
        self.whole_width = devices_max + 1
        kind_count = max(1, len(kinds))
        single = np.zeros((kind_count, self.level_count, WIDTH), np.int64)
        several = np.zeros((kind_count, self.level_count, self.whole_width), np.int64)
        asked = [(request, weight) for request, weight in demand if request.gpus]
        levels = numbers(np.searchsorted(self.levels, [request.cpu_milli for request, _ in asked]) + 1)
        for (request, weight), level in zip(asked, levels, strict=True):
            table, least = (single, request.milli) if request.gpus == 1 else (several, request.gpus)
            if least < table.shape[2]:
                fine = [code for code, kind in enumerate(kinds) if not request.kinds or kind in request.kinds]
                table[fine, level, least] += weight
        for table, size in ((single, 1), (several, GPU_MILLI)):
            # Whoever is served by so much is also served by more: of cores, and of devices.
            np.cumsum(table, axis=1, out=table)
            np.cumsum(table, axis=2, out=table)
            table *= size * np.arange(table.shape[2])
        self.single: Ints = single.ravel()
        """Weighted thousandths of use on a device, at (kind * level_count + level) * WIDTH + free thousandths."""
        self.several: Ints = several.ravel()
        """Likewise of several whole devices, at (kind * level_count + level) * whole_width + whole devices."""
        # For looking at few nodes: to read one number of an array takes several times as long. A list would be a little
        # quicker still, but takes as long to make as thousands of decisions.
        self.level_list: list[int] = numbers(self.levels)
        self.single_list: Sequence[int] = self.single.data
        self.several_list: Sequence[int] = self.several.data

    def level(self, cpu_free: Ints) -> Ints:
        return np.searchsorted(self.levels, cpu_free, side="right")


def _levels(amounts: Sequence[int]) -> Ints:
    distinct = sorted(set(amounts))
    if len(distinct) > LEVELS_MAX:
        step = len(distinct) / LEVELS_MAX
        distinct = [distinct[int((number + 1) * step) - 1] for number in range(LEVELS_MAX)]
    return np.array(distinct, np.int64)
