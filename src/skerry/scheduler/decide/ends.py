"""Everybody who has a place by when they end, found as far as somebody asks: most often the first few make the room."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import islice
from math import inf

import numpy as np

from skerry.scheduler.columns import numbers
from skerry.scheduler.present import CPU, ENDS, GPU, MEMORY, Present, ascending
from skerry.scheduler.snapshot import Placement

End = tuple[float, Placement]


class Ends:
    """Who does not say when it ends comes last, the emptiest nodes first. Not for longer than nobody starts or ends."""

    def __init__(self, present: Present, leaving: Set[str], now: float) -> None:
        self._leaving = leaving
        self._count = sum(each not in leaving for each in present.all) if leaving else len(present.all)
        self._found: list[End] = []
        self._more = self._sorted(present, now)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> End:
        return self.between(at, at + 1)[0]

    def between(self, start: int, stop: int) -> list[End]:
        if stop > len(self._found):
            self._found += islice(self._more, stop - len(self._found))
        return self._found[start:stop]

    def _sorted(self, present: Present, now: float) -> Iterator[End]:
        every = present.slots()
        staying = np.ones(len(every), np.bool_)
        staying[np.searchsorted(every, np.array(present.slots_of(self._leaving), np.int64))] = False
        slots = every[staying]
        ends = present.line(ENDS, slots)
        known = slots[ends < inf]
        times = np.maximum(ends[ends < inf], now)
        ids = present.ids(known)
        for at in ascending((times,), ids.__getitem__):
            yield times.item(at), present.all[ids[at]]
        unknown = slots[ends == inf]
        held = [present.by_node(line, every) for line in (GPU, MEMORY, CPU)]
        nodes = np.unique(present.node_numbers(unknown))
        names = [present.nodes[node] for node in numbers(nodes)]
        for at in ascending([sums.take(nodes) for sums in held], names.__getitem__):
            for name, placement in sorted(present.on_node[names[at]].items()):
                if placement.ends_s is None and name not in self._leaving:
                    yield inf, placement
