"""What there is and what waits, in; what starts, what makes room and why the rest waits, out. Same in, same out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from skerry.scheduler.cell import Cell
from skerry.scheduler.decide.turn import Pass
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.plan import Plan
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Snapshot, Work


def place(snapshot: Snapshot, now: float, cell: Cell | None = None, ledger: Ledger | None = None) -> Plan:
    """One plan for all that waits. Tiers come strictly in order; within one the policies of the queues decide.

    `cell` and `ledger`, where they are kept between passes, have what the snapshot has, and afterwards the starts too.
    The reasons in the plan are worked out when they are read, from the cell: read them before it changes.
    """
    if cell is None:
        cell = Cell(snapshot.nodes, snapshot.placements, seed=snapshot.seed)
    if ledger is None:
        ledger = Ledger(snapshot.nodes, snapshot.placements)
    cell.expect(_asked(snapshot.waiting))
    return Pass(snapshot, now, cell, ledger).run()


def _asked(waiting: Iterable[Work]) -> Counter[Shape]:
    """Shapes that are one object are counted without a look at them: there may be ten thousand of a few."""
    counts: dict[int, int] = {}
    shapes: dict[int, Shape] = {}
    for work in waiting:
        for _, shape in work.members:
            identity = id(shape)
            if identity in counts:
                counts[identity] += 1
            else:
                counts[identity] = 1
                shapes[identity] = shape
    asked: Counter[Shape] = Counter()
    for identity, shape in shapes.items():
        asked[shape] += counts[identity]
    return asked
