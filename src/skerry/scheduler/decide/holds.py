"""Room that is kept for those who are next: when it will be there, where, and who may use it until then.

EASY backfill (Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995), by node and device instead of by sums. The one
at the head of a pool gets seats at the earliest time at which, by the limits of what runs, there is room for it. Who
comes after it starts on other nodes, or ends before that time, or leaves the head its seats there: so the head starts
at that time at the latest, whoever was let past it. Where nothing says when room comes, only those are let onto its
nodes who ask there for what the head is not short of: they are never what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from skerry.scheduler.cell import Cell, Mark
from skerry.scheduler.decide.ends import Ends
from skerry.scheduler.decide.seating import Ask, Seated, Seating
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.present import Present
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Placement

ALL_OF_IT = Shape(cpu_milli=2**50, memory_bytes=2**60)
"""What is counted on a node that is shut."""


@dataclass(frozen=True, slots=True)
class Hold:
    ask: Ask
    seated: Seated
    at_s: float | None
    """When the room is there at the latest; None: nothing says when."""
    gone: frozenset[str]
    """Sandboxes that will have ended by then."""
    evicting: bool = False
    """It waits for what has been asked to end."""


class Holds:
    def __init__(self, seating: Seating, now: float, placements: Iterable[Placement], ledger: Ledger) -> None:
        self._cell: Cell = seating.cell
        self._seating = seating
        self._now = now
        self._placements = placements
        self._ledger = ledger
        self.leaving = {each.id for each in placements if each.leaving}
        self.all: list[Hold] = []
        self._nodes: set[str] = set()
        """On which room is held."""
        self._out = False
        self._until_s = inf

    @cached_property
    def present(self) -> Present:
        """Who has a place, those who start in this pass too."""
        return self._ledger.present(self._placements)

    # Keeping room

    def keep(self, hold: Hold) -> None:
        self.all.append(hold)
        self._until_s = min(self._until_s, -inf if hold.at_s is None else hold.at_s)
        new = hold.seated.nodes - self._nodes
        self._nodes |= new
        if self._out:
            self._shut(new)

    def keep_out(self) -> None:
        """Shut the nodes on which somebody holds room."""
        if not self._out:
            self._out = True
            self._shut(self._nodes)

    def let_in(self) -> None:
        if self._out:
            self._out = False
            self._open(self._nodes)

    def outlast(self, limit_s: float | None) -> bool:
        """Whether what starts now has ended before anybody gets the room that is held."""
        return limit_s is not None and self._now + limit_s <= self._until_s

    def _shut(self, nodes: Iterable[str]) -> None:
        for node in sorted(nodes):
            self._cell.take(Placement(_name(node), _name(node), node, ALL_OF_IT))

    def _open(self, nodes: Iterable[str]) -> None:
        for node in sorted(nodes):
            self._cell.free(_name(node))

    def ahead(self) -> Mark:
        """The cell as it will be when what leaves has left and those who hold room have it. Ends with a rollback."""
        mark = self._cell.mark()
        if self._out:
            self._open(self._nodes)
        for sandbox in sorted(self.leaving):
            self._cell.free(sandbox)
        for hold in self.all:
            self._take(hold, hold.seated.nodes)
        return mark

    def _take(self, hold: Hold, nodes: frozenset[str]) -> None:
        for name, shape, seat in hold.seated.seats:
            if seat.node in nodes:
                self._cell.take(Placement(name, hold.ask.work.id, seat.node, shape, seat.devices))

    # When there is room for the head

    def reserve(self, ask: Ask, may: Callable[[Iterable[str]], bool] | None) -> Hold | None:
        """Seats for it at the earliest time, by what says when it ends; `may` tells if it may when these have ended,
        if that is not always so. None: there is no room for it even when all have."""
        if not self._seating.could_ever(ask):
            return None
        ends = Ends(self.present, self.leaving, self._now)
        mark = self.ahead()
        try:
            found = self._earliest(ask, ends, may)
        finally:
            self._cell.rollback(mark)
        if found is None:
            return None
        seated, last = found
        at_s = self._now if not last else ends[last - 1][0]
        gone = frozenset(each.id for _, each in ends.between(0, last)) | self.leaving
        return Hold(ask, seated, None if at_s == inf else at_s, gone)

    def _earliest(self, ask: Ask, ends: Ends, may: Callable[[Iterable[str]], bool] | None) -> tuple[Seated, int] | None:
        """The smallest number of ends after which it has seats: in ever larger steps, then halving the last one."""
        cell = self._cell

        def fits(count: int) -> bool:
            gone = {each.id for _, each in ends.between(0, count)} | self.leaving if may is not None else None
            return (may is None or gone is None or may(gone)) and self._seating.fits(ask)

        low, high, step = 0, 0, 1
        if not fits(0):
            while True:
                if low == len(ends):
                    return None
                high = min(low + step, len(ends))
                mark = cell.mark()
                self._end(ends.between(low, high))
                if fits(high):
                    cell.rollback(mark)
                    break
                cell.keep(mark)
                low, step = high, step * 2
            while high - low > 1:
                middle = (low + high) // 2
                mark = cell.mark()
                self._end(ends.between(low, middle))
                if fits(middle):
                    cell.rollback(mark)
                    high = middle
                else:
                    cell.keep(mark)
                    low = middle
            self._end(ends.between(low, high))
        seated = self._seating.seat(ask)
        return None if seated is None else (seated, high)

    def _end(self, ends: Iterable[tuple[float, Placement]]) -> None:
        for _, placement in ends:
            self._cell.free(placement.id)

    # Who may pass

    def spared(self, seated: Seated, limit_s: float | None) -> bool:
        """Whether everybody who holds room still gets it at its time with these places taken, which they are."""
        return all(self._spares(hold, seated, limit_s) for hold in self.all)

    def _spares(self, hold: Hold, seated: Seated, limit_s: float | None) -> bool:
        nodes = seated.nodes & hold.seated.nodes
        if not nodes:
            return True
        if hold.at_s is None and not hold.evicting:
            return self._asks_for_other(hold, seated, nodes)
        if hold.at_s is not None and limit_s is not None and self._now + limit_s <= hold.at_s:
            return True
        cell = self._cell
        mark = cell.mark()
        for node in sorted(nodes):
            for placement in self.present.on_node.get(node, {}).values():
                if self._gone_by(placement, hold):
                    cell.free(placement.id)
        for other in self.all:
            if other is not hold:
                self._take(other, nodes)
        there = all(
            cell.put(replace(shape, node=seat.node), strategy=hold.ask.strategy, work=hold.ask.work.id, id=name)
            for name, shape, seat in hold.seated.seats
            if seat.node in nodes
        )
        cell.rollback(mark)
        return there

    def _asks_for_other(self, hold: Hold, seated: Seated, nodes: frozenset[str]) -> bool:
        """Whether of all that was given here there would still be enough for the head, beside everybody who is here:
        then it is short of something else, and waits for that as long with them as without."""
        here = [shape for _, shape, seat in seated.seats if seat.node in nodes]
        wants = [(name, shape, seat) for name, shape, seat in hold.seated.seats if seat.node in nodes]
        if any(shape.neighbours or shape.spreads for _, shape, _ in wants):
            return False
        mark = self._cell.mark()
        there = all(
            self._cell.put(
                replace(_only(shape, here), node=seat.node), strategy=hold.ask.strategy, work=hold.ask.work.id, id=name
            )
            for name, shape, seat in wants
        )
        self._cell.rollback(mark)
        return there

    def _gone_by(self, placement: Placement, hold: Hold) -> bool:
        if placement.id in self.leaving or placement.id in hold.gone:
            return True
        return hold.at_s is not None and placement.ends_s is not None and placement.ends_s <= hold.at_s


def _only(shape: Shape, others: Iterable[Shape]) -> Shape:
    """What it asks of those things of which the others ask something."""
    others = list(others)
    extras = {name for other in others for name, amount in other.extras if amount}
    return replace(
        shape,
        cpu_milli=shape.cpu_milli if any(other.cpu_milli for other in others) else 0,
        memory_bytes=shape.memory_bytes if any(other.memory_bytes for other in others) else 0,
        disk_bytes=shape.disk_bytes if any(other.disk_bytes for other in others) else 0,
        gpu_count=shape.gpu_count if any(other.gpu_count for other in others) else 0,
        extras=tuple(each for each in shape.extras if each[0] in extras),
    )


def _name(node: str) -> str:
    return f"shut:{node}"
