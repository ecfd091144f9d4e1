"""All members of something that waits get places, or none does: tried on the cell and undone to the last bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from skerry.model.queue import Strategy
from skerry.model.resources import GPU_MILLI
from skerry.scheduler.cell import Cell, Pool, Seat
from skerry.scheduler.shape import Shape, Term
from skerry.scheduler.snapshot import Node, Work

Members = Sequence[tuple[str, Shape]]


def least(work: Work) -> int:
    """Members without whom it does not start."""
    return len(work.members) if work.minimum is None else max(1, min(work.minimum, len(work.members)))


@dataclass(frozen=True, slots=True)
class Ask:
    """What of a work is asked for now."""

    work: Work
    members: tuple[tuple[str, Shape], ...]
    """As many as its quotas allow, as narrow as they want it."""
    minimum: int
    pool: Pool | None
    terms: tuple[Term, ...]
    """Of the pool."""
    strategy: Strategy

    @property
    def alike(self) -> Shape | None:
        """What all of its members ask; None: they ask different things."""
        shape = self.members[0][1]
        return shape if all(each is shape or each == shape for _, each in self.members) else None

    @property
    def gang(self) -> bool:
        return len(self.work.members) > 1


@dataclass(frozen=True, slots=True)
class Seated:
    seats: tuple[tuple[str, Shape, Seat], ...]

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(seat.node for _, _, seat in self.seats)


class Seating:
    """On one cell."""

    def __init__(self, cell: Cell, nodes: Sequence[Node]) -> None:
        self.cell = cell
        self._nodes = nodes
        self._places: dict[tuple[str, tuple[Term, ...]], list[str]] = {}
        self.most = 0
        """Members that had room when it was last tried in vain."""

    def seat(self, ask: Ask) -> Seated | None:
        """Leaves the places taken, or the cell as it was."""
        self.most = 0
        if len(ask.members) == 1 and not ask.work.together:
            name, shape = ask.members[0]
            seat = self.cell.put(shape, strategy=ask.strategy, pool=ask.pool, work=ask.work.id, id=name)
            return None if seat is None else Seated(((name, shape, seat),))
        if not ask.work.together:
            return self._within(ask, ask.pool)
        if ask.work.together == "node":
            return self._on_one_node(ask)
        best: tuple[int, Pool] | None = None
        for place in self._values(ask.work.together, ask.terms):
            pool = self.cell.pool((*ask.terms, Term(ask.work.together, frozenset({place}))))
            mark = self.cell.mark()
            found = self._within(ask, pool)
            if found is not None and len(found.seats) == len(ask.members):
                self.cell.keep(mark)
                return found
            self.cell.rollback(mark)
            if found is None:
                continue
            if best is None or len(found.seats) > best[0]:
                best = (len(found.seats), pool)
        return None if best is None else self._within(ask, best[1])

    def fits(self, ask: Ask) -> bool:
        """Whether it would have seats; the cell stays as it is."""
        if len(ask.members) > 1 and not ask.work.together:
            found = self._counted(ask, ask.pool)
            if found is not None:
                self.most = 0 if found >= ask.minimum else found
                return found >= ask.minimum
        mark = self.cell.mark()
        seated = self.seat(ask)
        self.cell.rollback(mark)
        return seated is not None

    def could_ever(self, ask: Ask) -> bool:
        """Whether it may find room when others have ended; where not, no time need be looked for."""
        alike = ask.alike
        return self.cell.room_ever(ask.members[0][1], ask.pool) >= (1 if alike is None else ask.minimum)

    def _counted(self, ask: Ask, pool: Pool | None) -> int | None:
        """Members for whom there is room, where that can be told without placing them."""
        alike = ask.alike
        found = None if alike is None else self.cell.how_many(alike, pool)
        return None if found is None else min(found, len(ask.members))

    def _within(self, ask: Ask, pool: Pool | None) -> Seated | None:
        counted = self._counted(ask, pool)
        if counted is not None and counted < ask.minimum:
            self.most = max(self.most, counted)
            return None
        mark = self.cell.mark()
        seats: list[tuple[str, Shape, Seat]] = []
        for shape, group in groupby(ask.members, key=itemgetter(1)):
            names = [name for name, _ in group]
            found = self.cell.put_many(shape, len(names), strategy=ask.strategy, pool=pool, work=ask.work.id, ids=names)
            seats += [(seat.id, shape, seat) for seat in found]
        if self._enough(ask, seats):
            self.cell.keep(mark)
            return Seated(tuple(seats))
        self.most = max(self.most, len(seats))
        self.cell.rollback(mark)
        return None

    def _enough(self, ask: Ask, seats: list[tuple[str, Shape, Seat]]) -> bool:
        # The first member is whom the others look for.
        return len(seats) >= ask.minimum and bool(seats) and seats[0][0] == ask.members[0][0]

    def _on_one_node(self, ask: Ask) -> Seated | None:
        for node in self._homes(ask):
            mark = self.cell.mark()
            here = replace(ask, members=tuple((name, replace(shape, node=node)) for name, shape in ask.members))
            found = self._within(here, ask.pool)
            if found is not None and len(found.seats) == len(ask.members):
                self.cell.keep(mark)
                shapes = dict(ask.members)
                return Seated(tuple((name, shapes[name], seat) for name, _, seat in found.seats))
            self.cell.rollback(mark)
        return None

    def _homes(self, ask: Ask) -> Iterator[str]:
        """Nodes that may have room for all of its members, asked for as if they were one where that can be said."""
        together = merged(ask.members)
        if together is None:
            yield from sorted(node.id for node in self._nodes if node.accepts)
            return
        mark = self.cell.mark()
        seat = self.cell.put(together, strategy=ask.strategy, pool=ask.pool, work=ask.work.id)
        self.cell.rollback(mark)
        if seat is not None:
            yield seat.node

    def _values(self, topology: str, terms: tuple[Term, ...]) -> list[str]:
        key = (topology, terms)
        if key not in self._places:
            self._places[key] = sorted({dict(node.labels).get(topology, "") for node in self._nodes} - {""})
        return self._places[key]


def merged(members: Members) -> Shape | None:
    """One shape that asks for what these ask together; None where shares of devices make that impossible to say."""
    shapes = Counter(shape for _, shape in members)
    first = members[0][1]
    if any(shape.gpu_count and shape.gpu_milli != GPU_MILLI for shape in shapes):
        return None
    if any(replace(shape, **_sizes(first)) != first for shape in shapes):
        return None
    extras: Counter[str] = Counter()
    for shape, count in shapes.items():
        extras.update({name: amount * count for name, amount in shape.extras})
    return replace(
        first,
        cpu_milli=sum(shape.cpu_milli * count for shape, count in shapes.items()),
        memory_bytes=sum(shape.memory_bytes * count for shape, count in shapes.items()),
        disk_bytes=sum(shape.disk_bytes * count for shape, count in shapes.items()),
        gpu_count=sum(shape.gpu_count * count for shape, count in shapes.items()),
        extras=tuple(sorted(extras.items())),
    )


def _sizes(shape: Shape) -> dict[str, object]:
    return {name: getattr(shape, name) for name in ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_count", "extras")}
