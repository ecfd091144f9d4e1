"""The scheduler itself, as a replay asks it: what it keeps in mind is brought up to date by what has gone."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.errors import Failed
from skerry.scheduler.cell import Cell
from skerry.scheduler.ledger import Ledger, check
from skerry.scheduler.place import place
from skerry.scheduler.plan import Plan
from skerry.scheduler.snapshot import Snapshot
from skerry.simulate.trace import Trace


class RealScheduler:
    def __init__(self, trace: Trace, seed: int) -> None:
        self._cell = Cell(trace.nodes, seed=seed)
        self._ledger = Ledger(trace.nodes)

    def place(self, snapshot: Snapshot, now_s: float) -> Plan:
        return place(snapshot, now_s, self._cell, self._ledger)

    def gone(self, sandboxes: Iterable[str]) -> None:
        for sandbox in sandboxes:
            self._cell.free(sandbox)
            self._ledger.remove(sandbox)


def must_hold(snapshot: Snapshot) -> None:
    """Every promise that placements make, looked at from outside."""
    broken = check(snapshot)
    if broken:
        raise Failed(f"what the scheduler did cannot be: {broken[0]}", because="\n".join(broken))
