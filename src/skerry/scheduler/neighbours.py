"""Affinity and spread: how many sandboxes with given labels each place has, and what that allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from skerry.scheduler.columns import Columns, Ints, Mask
from skerry.scheduler.scores.scorer import SCORE_MAX
from skerry.scheduler.shape import Neighbour, Shape, Spread

Labels = tuple[tuple[str, str], ...]
WISH = 4 * SCORE_MAX
"""A wish about neighbours outweighs every score."""


class Neighbours:
    def __init__(self, columns: Columns, held: Callable[[], Iterable[tuple[int, Shape]]]) -> None:
        self._columns = columns
        self._held = held
        self._counts: dict[Labels, Ints] = {}
        """Of sandboxes on each row with these labels; only those that somebody has asked about."""
        self._refusing: dict[Neighbour, Ints] = {}
        """Of sandboxes on each row that must not be where others with certain labels are."""

    def add(self, row: int, shape: Shape, sign: int) -> None:
        if shape.labels:
            for labels, counts in self._counts.items():
                if _has(shape.labels, labels):
                    counts[row] += sign
        for each in shape.neighbours:
            if each.away and each.required:
                if each not in self._refusing:
                    self._refusing[each] = np.zeros(self._columns.count, np.int64)
                self._refusing[each][row] += sign

    def count(self, labels: Labels) -> Ints:
        if labels not in self._counts:
            counts = np.zeros(self._columns.count, np.int64)
            for row, shape in self._held():
                if _has(shape.labels, labels):
                    counts[row] += 1
            self._counts[labels] = counts
        return self._counts[labels]

    def concerns(self, shape: Shape) -> bool:
        """Whether where it may be depends on where others are."""
        if shape.neighbours or shape.spreads:
            return True
        return bool(shape.labels) and any(_has(shape.labels, each.labels) for each in self._refusing)

    def affinity_passes(self, shape: Shape) -> Mask:
        passed = np.ones(self._columns.count, np.bool_)
        for each in shape.neighbours:
            if not each.required:
                continue
            counts = self.count(each.labels)
            if each.away:
                passed &= self._here(each.topology, counts) == 0
            elif counts.any() or not _has(shape.labels, each.labels):
                passed &= self._here(each.topology, counts) > 0
            else:  # the first of those who want to be together may be anywhere
                passed &= self._columns.domains(each.topology) >= 0
        for each, holders in self._refusing.items():
            if _has(shape.labels, each.labels):
                passed &= self._here(each.topology, holders) == 0
        return passed

    def spread_passes(self, shape: Shape, eligible: Mask) -> Mask:
        passed = np.ones(self._columns.count, np.bool_)
        for each in shape.spreads:
            if each.required:
                here, least = self._spread(each, eligible)
                passed &= (self._columns.domains(each.topology) >= 0) & (here + 1 - least <= each.skew)
        return passed

    def wishes(self, shape: Shape, eligible: Mask) -> Ints:
        """To be added to scores."""
        wished = np.zeros(self._columns.count, np.int64)
        for each in shape.neighbours:
            if not each.required:
                has = self._here(each.topology, self.count(each.labels)) > 0
                wished += WISH * (~has if each.away else has)
        for each in shape.spreads:
            here, least = self._spread(each, eligible)
            beyond = np.maximum(0, here - least if each.required else here + 1 - least - each.skew)
            wished -= WISH * np.minimum(beyond, 1000)
        return wished

    def _spread(self, each: Spread, eligible: Mask) -> tuple[Ints, int]:
        here = self._here(each.topology, self.count(each.labels))
        places = here[eligible & (self._columns.domains(each.topology) >= 0)]
        return here, int(places.min()) if len(places) else 0

    def _here(self, topology: str, counts: Ints) -> Ints:
        """The sum over each row's place; 0 where it is in none."""
        if topology == "node":
            return counts
        domains = self._columns.domains(topology)
        sums = np.zeros(int(domains.max(initial=-1)) + 2, np.int64)
        np.add.at(sums, domains + 1, counts)
        sums[0] = 0
        return sums[domains + 1]


def _has(labels: Labels, wanted: Labels) -> bool:
    return set(wanted) <= set(labels)
