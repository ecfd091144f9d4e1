"""Who has a place, in columns: whose turn to end or to make room it is, is found without sorting everybody in Python.

It is kept between passes by the ledger, made when it is first asked for, and says the same as one that is made anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf, nan

import numpy as np
import numpy.typing as npt

from skerry.scheduler.columns import Ints, Mask, numbers
from skerry.scheduler.snapshot import Placement

Floats = npt.NDArray[np.float64]
NODE, QUEUE, RANK, PRIORITY, SINCE, ENDS, COST, ASKABLE, CPU, MEMORY, GPU = range(11)
"""Lines of the table. All are whole numbers below 2 ** 53, or times."""
LINES = 11


class Present:
    def __init__(self, placements: Iterable[Placement] = ()) -> None:
        self.all: dict[str, Placement] = {}
        self.on_node: defaultdict[str, dict[str, Placement]] = defaultdict(dict)
        self.of_work: defaultdict[str, dict[str, Placement]] = defaultdict(dict)
        self.nodes: list[str] = []
        """By their numbers in the table."""
        self._node_numbers: dict[str, int] = {}
        self._queue_numbers: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._ids: list[str] = []
        """By slot; empty where nobody is."""
        self._table: Floats = np.zeros((1024, LINES))
        for placement in placements:
            self.add(placement)

    def add(self, placement: Placement) -> None:
        """Of whom nothing is there."""
        name, shape = placement.id, placement.shape
        self.all[name] = placement
        self.on_node[placement.node][name] = placement
        self.of_work[placement.work][name] = placement
        slot = self._free.pop() if self._free else self._new_slot()
        self._slots[name] = slot
        self._ids[slot] = name
        node = self._node_numbers.get(placement.node)
        if node is None:
            node = self._node_numbers[placement.node] = len(self.nodes)
            self.nodes.append(placement.node)
        self._table[slot] = (
            node,
            self._queue_numbers.setdefault(placement.queue, len(self._queue_numbers)),
            placement.tier.rank,
            placement.priority,
            placement.since_s,
            inf if placement.ends_s is None else placement.ends_s,
            nan if placement.cost_s is None else placement.cost_s,
            placement.preemptible,
            shape.cpu_milli,
            shape.memory_bytes,
            shape.gpu_count * shape.gpu_milli,
        )

    def _new_slot(self) -> int:
        slot = len(self._ids)
        self._ids.append("")
        if slot == len(self._table):
            self._table = np.concatenate((self._table, np.zeros_like(self._table)))
        return slot

    def remove(self, placement: Placement) -> None:
        name = placement.id
        del self.all[name]
        for groups, key in ((self.on_node, placement.node), (self.of_work, placement.work)):
            del groups[key][name]
            if not groups[key]:
                del groups[key]
        slot = self._slots.pop(name)
        self._ids[slot] = ""
        self._table[slot] = 0
        self._free.append(slot)

    # Looking

    def slots(self) -> Ints:
        """Of everybody."""
        taken = np.ones(len(self._ids), np.bool_)
        taken[self._free] = False
        return taken.nonzero()[0]

    def line(self, line: int, slots: Ints) -> Floats:
        return self._table[:, line].take(slots)

    def at(self, slot: int) -> Placement:
        return self.all[self._ids[slot]]

    def slots_of(self, names: Iterable[str]) -> list[int]:
        return [self._slots[name] for name in names if name in self._slots]

    def askable(self, now: float, minimum_run_s: Mapping[str, float]) -> Ints:
        """Who may be asked to end: in a queue that is named, has run for so long there, and did not begin just now."""
        slots = self.slots()
        latest = np.full(len(self._queue_numbers) + 1, -inf)
        for queue, least in minimum_run_s.items():
            if queue in self._queue_numbers:
                latest[self._queue_numbers[queue]] = now - least
        since = self.line(SINCE, slots)
        ok = (self.line(ASKABLE, slots) > 0) & (since < now)
        ok &= since <= latest.take(self.line(QUEUE, slots).astype(np.int64))
        return slots[ok]

    def by_node(self, line: int, slots: Ints) -> Ints:
        """The sum of what these have on each node, by its number."""
        sums = np.bincount(self.node_numbers(slots), weights=self.line(line, slots), minlength=len(self.nodes))
        return sums.astype(np.int64)

    def node_numbers(self, slots: Ints) -> Ints:
        return self.line(NODE, slots).astype(np.int64)

    def ids(self, slots: Ints) -> Sequence[str]:
        return [self._ids[slot] for slot in numbers(slots)]


def ascending(keys: Sequence[Floats | Ints], tie: Callable[[int], str]) -> Iterator[int]:
    """Positions by the first key, then the next ones, then by a name that is only asked for where these are equal."""
    if not len(keys[0]):
        return
    order: Ints = np.lexsort(tuple(keys[::-1])) if len(keys) > 1 else np.argsort(keys[0], kind="stable")
    new: Mask = np.zeros(len(order), np.bool_)
    for key in keys:
        along = key[order]
        new[1:] |= along[1:] != along[:-1]
    borders = [0, *numbers(new.nonzero()[0]), len(order)]
    for start, stop in pairwise(borders):
        group = numbers(order[start:stop])
        yield from sorted(group, key=tie) if len(group) > 1 else group
