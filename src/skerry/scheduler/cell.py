"""Nodes and what is on them, as the scheduler sees them: where a request goes, at ten thousand nodes.

Requests that ask the same are one class and share one row of scores, in which only nodes that changed since it was
last used are scored again (Borg's equivalence classes and score cache: Verma et al., EuroSys 2015, section 3.4). Every
change can be undone exactly, so that a gang, a reservation or a preemption is tried on the same columns.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from skerry.model.queue import Strategy
from skerry.scheduler import why
from skerry.scheduler.columns import Columns, Devices, Ints, Mask, numbers
from skerry.scheduler.demand import NOTHING_KNOWN, Demand, Tables, Typical, learn, typical
from skerry.scheduler.devices import choose
from skerry.scheduler.fit import Freed, at_most, how_many
from skerry.scheduler.neighbours import Neighbours
from skerry.scheduler.plan import Fallen, Near
from skerry.scheduler.pool import Pool
from skerry.scheduler.request import Request, fixed_filters
from skerry.scheduler.row import Row
from skerry.scheduler.scores.auto import Auto
from skerry.scheduler.scores.fragmentation import Fragmentation
from skerry.scheduler.scores.fullness import Pack, Spread
from skerry.scheduler.scores.scorer import Scorer
from skerry.scheduler.shape import Shape, Term
from skerry.scheduler.snapshot import Amounts, Node, Placement

ROWS_MAX = 1024
"""Rows of scores that are kept, 4 bytes a node each."""
STAY = 2000
"""So many are put into one part of the nodes before the next part has its turn."""
REQUESTS_MAX = 4096
"""Shapes that are remembered at least until the next `sync`."""
NOWHERE = -(2**40)


class Seat(NamedTuple):
    """A place that something has."""

    id: str
    work: str
    node: str
    devices: Devices
    terms: tuple[tuple[str, float], ...]
    """What spoke for this node; empty for what had its place already."""
    fits: int
    """Nodes that it could have had, of those that were looked at."""


class Mark(NamedTuple):
    """A moment to come back to."""

    depth: int
    changes: int
    turn: int


class Held:
    """What the cell keeps of a seat."""

    __slots__ = ("placement", "request", "row", "seat")

    def __init__(self, seat: Seat, row: int, request: Request, placement: Placement | None) -> None:
        self.seat = seat
        self.row = row
        """-1: its node is not there."""
        self.request = request
        self.placement = placement

    def is_as(self, placement: Placement) -> bool:
        seat = self.seat
        return (
            seat.node == placement.node
            and seat.devices == placement.devices
            and seat.work == placement.work
            and self.request.shape == placement.shape
        )


class Cell:
    def __init__(
        self,
        nodes: Sequence[Node],
        placements: Iterable[Placement] = (),
        *,
        seed: int = 0,
        scorers: Mapping[Strategy, Scorer] | None = None,
    ) -> None:
        self._seed = seed
        self._scorers: dict[Strategy, Scorer] = {
            Strategy.PACK: Pack(),
            Strategy.SPREAD: Spread(),
            Strategy.FRAGMENTATION: Fragmentation(),
            Strategy.AUTO: Auto(),
            **(scorers or {}),
        }
        self._pools: dict[tuple[Term, ...], Pool] = {}
        self._begin(nodes)
        for placement in placements:
            self.take(placement)
        self._turn = self._first_turn()

    def _begin(self, nodes: Sequence[Node]) -> None:
        self._columns = Columns(nodes, self._seed)
        self._held: dict[str, Held] = {}
        self._requests: dict[Shape, Request] = {}
        self._rows: dict[tuple[Shape, Strategy, tuple[Term, ...] | None], Row] = {}
        self._at_hand: dict[tuple[int, int, int], tuple[Row, Shape]] = {}
        """Rows by the identities of what they are asked with: to compare shapes takes longer than to place them."""
        self._neighbours = Neighbours(self._columns, self._neighbourhood)
        self._demand: Demand = NOTHING_KNOWN
        self._tables = Tables(NOTHING_KNOWN, self._columns.kinds, self._columns.width)
        self._learnt = False
        self._log: list[tuple[bool, Held]] = []
        self._depth = 0
        self._named = 0
        self._turn = 0
        for pool in self._pools.values():
            pool.look(self._columns)

    def _neighbourhood(self) -> Iterator[tuple[int, Shape]]:
        for held in self._held.values():
            if held.row >= 0 and held.request.shape.labels:
                yield held.row, held.request.shape

    # Bringing it up to date

    def sync(self, nodes: Sequence[Node], placements: Iterable[Placement]) -> None:
        """As if made anew from these; what has stayed the same costs a comparison. Marks end, pools live on."""
        self._log.clear()
        self._depth = 0
        renewed = self._renew(nodes)
        if renewed is None:
            self._begin(nodes)
        elif len(renewed):
            for request in self._requests.values():
                if request.looked:
                    request.look(self._columns, renewed)
            for pool in self._pools.values():
                pool.look(self._columns)
        self._exchange(placements)
        if len(self._requests) > REQUESTS_MAX:
            self._rows.clear()
            self._requests = {shape: request for shape, request in self._requests.items() if request.held}
            for request in self._requests.values():
                request.looked = False
        self._at_hand.clear()
        self._learnt = False
        self._turn = self._first_turn()

    def _first_turn(self) -> int:
        """The part of the nodes that has its turn first: another one whenever anything is different, and always the
        same for the same."""
        free = zlib.crc32(self._columns.room.sum(axis=1).tobytes())
        return free % len(self._columns.parts) * STAY

    def _renew(self, nodes: Sequence[Node]) -> Ints | None:
        """The rows of nodes that have changed. None: others have come or gone."""
        columns = self._columns
        if len(nodes) != columns.count or any(node.id not in columns.at for node in nodes):
            return None
        changed: list[Node] = []
        for node in nodes:
            was = columns.nodes[columns.at[node.id]]
            if was is not node and was != node:
                changed.append(node)
        return columns.renew(changed)

    def _exchange(self, placements: Iterable[Placement]) -> None:
        left = dict(self._held)
        new: list[Placement] = []
        for placement in placements:
            held = left.pop(placement.id, None)
            if held is None:
                new.append(placement)
            elif held.placement is placement or held.is_as(placement):
                held.placement = placement
            else:
                self.free(placement.id)
                new.append(placement)
        for gone in left:
            self.free(gone)
        for placement in new:
            self.take(placement)

    def expect(self, waiting: Mapping[Shape, int]) -> None:
        """Learn what typically comes: from what has a place, and from what waits."""
        counts: Counter[Typical] = Counter()
        for request in self._requests.values():
            if request.held:
                counts[request.typical] += request.held
        for shape, count in waiting.items():
            counts[typical(shape)] += count
        self.foresee(learn(counts))

    def foresee(self, demand: Demand) -> None:
        """Set what typically comes."""
        self._learnt = True
        if demand != self._demand:
            self._demand = demand
            self._tables = Tables(demand, self._columns.kinds, self._columns.width)

    # Giving places

    def put(
        self, shape: Shape, *, strategy: Strategy, pool: Pool | None = None, work: str = "", id: str = ""
    ) -> Seat | None:
        """Choose a node, and devices on it, and take them. None: it fits nowhere now."""
        row = self._row(shape, strategy, pool)
        columns = self._columns
        at = row.best(columns, self._tables, self._turn // STAY)
        if at < 0:
            return None
        request = row.request
        wished: Ints | None = None
        if self._neighbours.concerns(shape):
            allowed, wished = self._among_others(row)
            fitting = int(allowed.sum())
            if not fitting:
                return None
            at = int(np.where(allowed, row.scores + wished, NOWHERE).argmax())
        else:
            fitting = row.fitting_beside(columns, at)
        if not id:
            self._named += 1
            id = f"~{self._named}"
        devices = choose(columns, self._tables, row.scorer, request, at)
        terms = row.terms(at, 0 if wished is None else int(wished[at]))
        seat = Seat(id, work or id, columns.nodes[at].id, devices, terms, fitting)
        self._hold(Held(seat, at, request, None))
        self._turn += 1
        return seat

    def put_many(
        self,
        shape: Shape,
        count: int,
        *,
        strategy: Strategy,
        pool: Pool | None = None,
        work: str = "",
        ids: Sequence[str] = (),
    ) -> list[Seat]:
        """As many as fit, up to `count`. `ids`: theirs, in order."""
        seats: list[Seat] = []
        while len(seats) < count:
            id = ids[len(seats)] if ids else ""
            seat = self.put(shape, strategy=strategy, pool=pool, work=work, id=id)
            if seat is None:
                break
            seats.append(seat)
        return seats

    def _row(self, shape: Shape, strategy: Strategy, pool: Pool | None) -> Row:
        """Of this class."""
        key = (id(shape), id(strategy), id(pool))
        found = self._at_hand.get(key)
        if found is None:
            if not self._learnt:
                self.expect({})
            if len(self._at_hand) > ROWS_MAX:
                self._at_hand.clear()
            row = self._row_of(shape, strategy, pool)
            self._at_hand[key] = (row, shape)  # the shape is kept, so that its identity stays its own
        else:
            row = found[0]
        return row

    def _row_of(self, shape: Shape, strategy: Strategy, pool: Pool | None) -> Row:
        named = (shape, strategy, pool.terms if pool else None)
        row = self._rows.get(named)
        if row is None:
            request = self._request(shape)
            request.prepare(self._columns)
            row = Row(request, self._scorers[strategy], pool, self._columns)
            if not shape.node:  # such a row is made in no time, and there may be as many as sandboxes
                if len(self._rows) >= ROWS_MAX:
                    del self._rows[next(iter(self._rows))]
                    self._at_hand.clear()
                self._rows[named] = row
        return row

    def _request(self, shape: Shape) -> Request:
        request = self._requests.get(shape)
        if request is None:
            request = self._requests[shape] = Request(shape, self._columns)
        return request

    def _among_others(self, row: Row) -> tuple[Mask, Ints]:
        """Where it may be, given where others are, and what it wishes."""
        row.refresh_all(self._columns, self._tables)
        shape = row.request.shape
        eligible = row.eligible()
        allowed = row.scores >= 0
        allowed &= self._neighbours.affinity_passes(shape)
        allowed &= self._neighbours.spread_passes(shape, eligible)
        return allowed, self._neighbours.wishes(shape, eligible)

    # What has a place

    def take(self, placement: Placement) -> None:
        """What has its place already. It is counted where it is, whether or not it fits."""
        self.free(placement.id)
        row = self._columns.at.get(placement.node, -1)
        seat = Seat(placement.id, placement.work, placement.node, placement.devices, (), 0)
        self._hold(Held(seat, row, self._request(placement.shape), placement))

    def free(self, seat: Seat | str) -> None:
        """Give its room back; nothing happens if it has none."""
        held = self._held.get(seat if isinstance(seat, str) else seat.id)
        if held is not None:
            self._let_go(held)
            if self._depth:
                self._log.append((False, held))

    def _hold(self, held: Held) -> None:
        self._add(held)
        if self._depth:
            self._log.append((True, held))

    def _add(self, held: Held) -> None:
        request = held.request
        self._held[held.seat.id] = held
        request.held += 1
        if held.row >= 0:
            self._columns.occupy(held.row, request, held.seat.devices)
            if request.social:
                self._neighbours.add(held.row, request.shape, 1)

    def _let_go(self, held: Held) -> None:
        request = held.request
        del self._held[held.seat.id]
        request.held -= 1
        if held.row >= 0:
            self._columns.release(held.row, request, held.seat.devices)
            if request.social:
                self._neighbours.add(held.row, request.shape, -1)

    def seats(self) -> Iterator[Seat]:
        for held in self._held.values():
            yield held.seat

    def miscounted(self) -> list[str]:
        """Nodes that are kept as having other room than what is on them leaves. Empty: all is well."""
        columns, named = self._columns, len(self._columns.names)
        room = columns.capacity[:named].copy()
        used = [[0] * len(node.devices) for node in columns.nodes]
        for held in self._held.values():
            if held.row >= 0:
                room[:, held.row] -= held.request.need[:named]
                for index, milli, _ in held.seat.devices:
                    if index < len(used[held.row]):
                        used[held.row][index] += milli
        rows = set(numbers(np.flatnonzero((room != columns.room[:named]).any(axis=0))))
        rows |= {row for row, parts in enumerate(used) if parts != columns.device_used[row]}
        return [f"node {columns.nodes[row].id} is kept as having other room than it has" for row in sorted(rows)]

    # Trying

    def mark(self) -> Mark:
        """From here on, until `rollback` or `keep`, changes can be undone. Marks nest."""
        self._depth += 1
        return Mark(self._depth, len(self._log), self._turn)

    def rollback(self, mark: Mark) -> None:
        """Undo everything since, marks that were made since with it."""
        while len(self._log) > mark.changes:
            put, held = self._log.pop()
            if put:
                self._let_go(held)
            else:
                self._add(held)
        self._turn = mark.turn
        self._end(mark)

    def keep(self, mark: Mark) -> None:
        """Let what was done since stand; marks made before can still undo it."""
        self._end(mark)

    def _end(self, mark: Mark) -> None:
        self._depth = mark.depth - 1
        if not self._depth:
            self._log.clear()

    # Asking

    def fits(self, shape: Shape, pool: Pool | None = None, *, strategy: Strategy = Strategy.AUTO) -> int:
        """Nodes where it fits now."""
        row = self._row(shape, strategy, pool)
        if self._neighbours.concerns(shape):
            return int(self._among_others(row)[0].sum())
        row.refresh_all(self._columns, self._tables)
        return int(np.count_nonzero(row.scores >= 0))

    def how_many(self, shape: Shape, pool: Pool | None = None) -> int | None:
        """Of these there is room for now, counted without placing them. None: where one is tells where the next may be,
        and only trying tells."""
        if self._neighbours.concerns(shape):
            return None
        request = self._request(shape)
        request.prepare(self._columns)
        rows = request.only(self._columns)
        if rows is None:
            rows = self._columns.every if pool is None else pool.rows
        elif pool is not None:
            rows = rows[pool.mask.take(rows)]
        return int(how_many(self._columns, request, rows).sum())

    def room_ever(self, shape: Shape, pool: Pool | None = None) -> int:
        """Of these there can be at most on the nodes that accept work, were they empty."""
        request = self._request(shape)
        request.prepare(self._columns)
        rows = (request.mask if pool is None else request.mask & pool.mask).nonzero()[0]
        return int(at_most(self._columns, request, rows, None).sum())

    def room_with(self, shape: Shape, pool: Pool | None, nodes: Sequence[str], freed: Freed) -> Ints | None:
        """Of these there can be at most on each of some nodes, once so much is given back. None: as `how_many`."""
        if self._neighbours.concerns(shape):
            return None
        request = self._request(shape)
        request.prepare(self._columns)
        at = self._columns.at
        rows = np.array([at.get(node, -1) for node in nodes], np.int64)
        ok = rows >= 0 if pool is None else (rows >= 0) & pool.mask.take(rows)
        return at_most(self._columns, request, np.maximum(rows, 0), freed) * ok

    def could_ever(self, shape: Shape, pool: Pool | None = None) -> bool:
        """Whether any node, were it empty and accepting, could have it. What is only asked about is not remembered."""
        request = self._requests.get(shape) or Request(shape, self._columns)
        rows = self._columns.every if pool is None else pool.rows
        passed = request.whole(self._columns, rows)
        for _, ok in fixed_filters(request, self._columns, rows):
            passed &= ok
        return bool(passed.any())

    def nodes_of(self, pool: Pool | None = None) -> list[Node]:
        rows = self._columns.every if pool is None else pool.rows
        return [self._columns.nodes[row] for row in numbers(rows)]

    def why_not(
        self, shape: Shape, pool: Pool | None = None, near: int = 3
    ) -> tuple[tuple[Fallen, ...], tuple[Near, ...]]:
        """How many nodes each filter took out, in order, and the nodes that lack least."""
        request = self._request(shape)
        request.prepare(self._columns)
        eligible = request.mask if pool is None else request.mask & pool.mask
        others = (self._neighbours.affinity_passes(shape), self._neighbours.spread_passes(shape, eligible))
        rows = self._columns.every if pool is None else pool.rows
        return why.fallen(self._columns, request, rows, others), why.nearest(self._columns, request, rows, near)

    def pool(self, terms: Iterable[Term]) -> Pool:
        """The nodes with these labels. It is kept up to date, and is the same for the same terms."""
        key = tuple(terms)
        if key not in self._pools:
            self._pools[key] = Pool(key, self._columns)
        return self._pools[key]

    def totals(self, pool: Pool | None = None) -> Amounts:
        """What the nodes have, whoever has it now."""
        columns = self._columns
        if pool is None:
            return columns.amounts(np.sum(columns.capacity, axis=1), columns.every)
        if pool.totals is None:
            pool.totals = columns.amounts(np.sum(columns.capacity[:, pool.rows], axis=1), pool.rows)
        return pool.totals
