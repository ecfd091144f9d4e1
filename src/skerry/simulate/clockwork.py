"""Simulated time: what is due, in order, and in ticks, so that what happens together is looked at together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence


class Clockwork:
    """Arrivals are known ahead; everything else is put in as it is learnt. Time never goes back."""

    def __init__(self, arrivals_s: Sequence[float], tick_s: float) -> None:
        self._arrivals_s = arrivals_s
        self._tick_s = tick_s
        self._arrived = 0
        self._heap: list[tuple[float, int, int, int]] = []
        self._count = 0
        self.now_s = 0.0

    @property
    def arrived(self) -> int:
        return self._arrived

    def at(self, due_s: float, what: int, whose: int = 0) -> None:
        """`what` and `whose` come back when it is due. What is due never is never given back."""
        if math.isfinite(due_s):
            self._count += 1
            heapq.heappush(self._heap, (max(due_s, self.now_s), self._count, what, whose))

    def next_tick(self) -> bool:
        """Go on to the end of the tick in which the next thing is due; False: nothing is."""
        due_s = self._heap[0][0] if self._heap else math.inf
        if self._arrived < len(self._arrivals_s):
            due_s = min(due_s, self._arrivals_s[self._arrived])
        if math.isinf(due_s):
            return False
        end_s = math.ceil(due_s / self._tick_s) * self._tick_s if self._tick_s else due_s
        self.now_s = max(self.now_s, due_s, end_s)
        return True

    def due(self) -> Iterator[tuple[float, int, int]]:
        """(moment, what, whose) of all that was put in and is due by now, in the order of the moments."""
        while self._heap and self._heap[0][0] <= self.now_s:
            moment_s, _, what, whose = heapq.heappop(self._heap)
            yield moment_s, what, whose

    def arriving(self) -> Iterator[int]:
        """Numbers of those that have arrived by now."""
        while self._arrived < len(self._arrivals_s) and self._arrivals_s[self._arrived] <= self.now_s:
            self._arrived += 1
            yield self._arrived - 1
