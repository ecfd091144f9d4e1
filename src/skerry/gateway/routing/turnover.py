"""How soon caches forget, beside how soon conversations come back: what it costs to push something out.

What is pushed out of a replica's cache was used longest ago: as long ago as the cache takes to be filled once. Whether
it is asked for again is seen from how many requests go on from the last block of one before, and after how long.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from skerry.gateway.routing.contract import Ask

ENDS_MAX: Final = 100_000
"""Last blocks of prompts that are remembered."""
MEMORY_S: Final = 60.0
"""What came longer ago counts little for how fast a cache is filled."""
KEPT: Final = 0.98
FIRST_RETURN_S: Final = 30.0
"""Until one is seen."""


class Turnover:
    def __init__(self) -> None:
        self._ends: OrderedDict[int, float] = OrderedDict()
        """Last block of a prompt -> when it was routed."""
        self._filled: dict[str, tuple[float, float]] = {}
        """Replica -> (blocks that came, fading; when that was)."""
        self._returns = 0.0
        """Share of requests that go on from one before."""
        self._return_s = FIRST_RETURN_S

    def routed(self, ask: Ask, matched: int, replica: str, new_blocks: int, now_s: float) -> None:
        blocks = ask.blocks
        before_s = self._ends.pop(blocks[matched - 1], None) if matched else None
        self._returns = self._returns * KEPT + (before_s is not None) * (1 - KEPT)
        if before_s is not None:
            self._return_s = self._return_s * KEPT + (now_s - before_s) * (1 - KEPT)
        if blocks:
            self._ends[blocks[-1]] = now_s
            if len(self._ends) > ENDS_MAX:
                self._ends.popitem(last=False)
        count, then_s = self._filled.get(replica, (0.0, now_s))
        self._filled[replica] = (count * math.exp((then_s - now_s) / MEMORY_S) + new_blocks, now_s)

    def wanted(self, replica: str, spare_blocks: float, now_s: float) -> float:
        """How likely what would be pushed out there now is asked for again."""
        count, then_s = self._filled.get(replica, (0.0, now_s))
        per_s = count * math.exp((then_s - now_s) / MEMORY_S) / MEMORY_S
        if per_s <= 0:
            return 0.0
        return self._returns * math.exp(-spare_blocks / per_s / self._return_s)

    def gone(self, replica: str) -> None:
        self._filled.pop(replica, None)
