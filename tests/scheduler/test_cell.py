"""The cell: nothing is ever promised twice, whatever is undone is as if it had not been, and the order of nodes and
snapshots decides nothing."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.model.queue import Strategy
from skerry.scheduler import cell as cells
from skerry.scheduler import columns, row
from skerry.scheduler.cell import Cell, Seat
from skerry.scheduler.decide.refusal import refusal
from skerry.scheduler.demand import learn, typical
from skerry.scheduler.shape import Neighbour, Shape, Spread, Term
from skerry.scheduler.snapshot import Device, Node, Placement

GIB = 1024**3
KINDS = ("a100", "h100")
LABELS = ((), (("app", "web"),), (("app", "db"),))


@st.composite
def some_nodes(draw: st.DrawFn) -> list[Node]:
    return [
        Node(
            id=f"node-{number}",
            cpu_milli=draw(st.sampled_from((2000, 8000, 16000))),
            memory_bytes=draw(st.sampled_from((4, 16))) * GIB,
            devices=tuple(
                Device(draw(st.sampled_from(KINDS)), draw(st.sampled_from((0, 40 * GIB))), index // 2)
                for index in range(draw(st.sampled_from((0, 0, 1, 4))))
            ),
            extras=draw(st.sampled_from(((), (("fpga", 2),)))),
            labels=(("rack", draw(st.sampled_from("xy"))),) if draw(st.booleans()) else (),
            taints=frozenset(draw(st.sampled_from(((), ("dedicated=ml",))))),
            accepts=draw(st.sampled_from((True, True, True, False))),
            sandboxes_max=draw(st.sampled_from((3, 100))),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


def neighbours() -> st.SearchStrategy[tuple[Neighbour, ...]]:
    one = st.builds(
        Neighbour,
        labels=st.sampled_from(LABELS[1:]),
        topology=st.sampled_from(("node", "rack")),
        away=st.booleans(),
        required=st.booleans(),
    )
    return st.one_of(st.just(()), st.tuples(one))


def spreads() -> st.SearchStrategy[tuple[Spread, ...]]:
    one = st.builds(
        Spread, labels=st.just(LABELS[1]), topology=st.sampled_from(("node", "rack")), required=st.booleans()
    )
    return st.one_of(st.just(()), st.just(()), st.tuples(one))


@st.composite
def some_shapes(draw: st.DrawFn) -> Shape:
    gpus = draw(st.sampled_from((0, 0, 1, 1, 2, 4)))
    return Shape(
        cpu_milli=draw(st.sampled_from((0, 500, 1500, 3000))),
        memory_bytes=draw(st.sampled_from((0, 1, 3))) * GIB,
        gpu_count=gpus,
        gpu_milli=draw(st.sampled_from((125, 300, 500, 1000))) if gpus == 1 else 1000,
        gpu_memory_bytes=draw(st.sampled_from((0, 0, 15 * GIB))) if gpus else 0,
        gpu_kinds=frozenset(draw(st.sampled_from(((), (), ("h100",))))) if gpus else frozenset(),
        extras=draw(st.sampled_from(((), (), (("fpga", 1),)))),
        terms=draw(st.sampled_from(((), (), (Term("rack", frozenset("x")),), (Term("rack", absent=True),)))),
        tolerations=frozenset(draw(st.sampled_from(((), ("dedicated",))))),
        labels=draw(st.sampled_from(LABELS)),
        neighbours=draw(neighbours()),
        spreads=draw(spreads()),
        cpu_overcommit=draw(st.sampled_from((1.0, 2.0))),
    )


shapes = st.lists(some_shapes(), min_size=1, max_size=12)
strategies = st.sampled_from(list(Strategy))
few = settings(max_examples=20, deadline=None)


def placement(seat: Seat, shape: Shape) -> Placement:
    return Placement(seat.id, seat.work, seat.node, shape, seat.devices)


def fill(cell: Cell, wanted: list[Shape], strategy: Strategy) -> dict[str, Placement]:
    found: dict[str, Placement] = {}
    for number, shape in enumerate(wanted):
        seat = cell.put(shape, strategy=strategy, id=f"s{number}")
        if seat is not None:
            found[seat.id] = placement(seat, shape)
    return found


def state(cell: Cell, wanted: list[Shape]) -> object:
    """All that can be asked of a cell."""
    return (
        sorted((seat.id, seat.work, seat.node, seat.devices) for seat in cell.seats()),
        [cell.fits(shape) for shape in wanted],
        [cell.why_not(shape) for shape in wanted],
    )


def check_promises(nodes: list[Node], placements: dict[str, Placement]) -> None:
    for node in nodes:
        here = [each for each in placements.values() if each.node == node.id]
        if not here:
            continue
        assert node.accepts
        assert len(here) <= node.sandboxes_max
        factor = max(each.shape.cpu_overcommit for each in here)
        assert sum(each.shape.cpu_milli for each in here) <= node.cpu_milli * factor
        assert sum(each.shape.memory_bytes for each in here) <= node.memory_bytes
        assert sum(count for each in here for _, count in each.shape.extras) <= sum(c for _, c in node.extras)
        for index, device in enumerate(node.devices):
            parts = [part for each in here for part in each.devices if part[0] == index]
            assert sum(milli for _, milli, _ in parts) <= 1000
            assert not device.memory_bytes or sum(memory for _, _, memory in parts) <= device.memory_bytes
        for each in here:
            check_one(node, each)


def check_one(node: Node, each: Placement) -> None:
    shape = each.shape
    assert shape.cpu_milli <= node.cpu_milli
    assert len({index for index, _, _ in each.devices}) == shape.gpu_count
    assert all(milli == shape.gpu_milli for _, milli, _ in each.devices)
    assert not shape.gpu_kinds or {node.devices[index].kind for index, _, _ in each.devices} <= shape.gpu_kinds
    assert not node.taints or "dedicated" in shape.tolerations
    rack = dict(node.labels).get("rack")
    for term in shape.terms:
        assert rack is None if term.absent else rack in term.values


@given(some_nodes(), shapes, strategies)
@few
def test_nothing_is_promised_twice(nodes: list[Node], wanted: list[Shape], strategy: Strategy) -> None:
    placements = fill(Cell(nodes), wanted, strategy)
    check_promises(nodes, placements)
    check_neighbours(nodes, list(placements.values()))


def check_neighbours(nodes: list[Node], placed: list[Placement]) -> None:
    """In the order in which they came: each found it right when it came, and was refused by nobody before it."""
    places = {node.id: {"node": node.id, **dict(node.labels)} for node in nodes}

    def beside(one: Placement, other: Placement, topology: str) -> bool:
        place = places[one.node].get(topology)
        return place is not None and place == places[other.node].get(topology)

    for number, each in enumerate(placed):
        before = placed[:number]
        for wish in each.shape.neighbours:
            found = [other for other in before if set(wish.labels) <= set(other.shape.labels)]
            near = [other for other in found if beside(each, other, wish.topology)]
            if wish.required:
                assert not near if wish.away else near or (not found and set(wish.labels) <= set(each.shape.labels))
        for other in before:
            for wish in other.shape.neighbours:
                if wish.away and wish.required and set(wish.labels) <= set(each.shape.labels):
                    assert not beside(each, other, wish.topology)


@given(some_nodes(), shapes, shapes, strategies, st.data())
@few
def test_what_is_undone_was_never_done(
    nodes: list[Node], first: list[Shape], second: list[Shape], strategy: Strategy, data: st.DataObject
) -> None:
    cell = Cell(nodes)
    placements = fill(cell, first, strategy)
    before = state(cell, first + second)
    mark = cell.mark()
    inner = None
    for number, shape in enumerate(second):
        if data.draw(st.booleans()) and placements:
            cell.free(data.draw(st.sampled_from(sorted(placements))))
        if data.draw(st.booleans()):
            inner = cell.mark()
            if data.draw(st.booleans()):
                cell.keep(inner)
        cell.put(shape, strategy=strategy, id=f"t{number}")
    cell.rollback(mark)
    assert state(cell, first + second) == before
    assert state(Cell(nodes, placements.values()), first + second) == before


@given(some_nodes(), shapes, strategies, st.randoms(use_true_random=False), st.integers(0, 3))
@few
def test_the_order_of_nodes_decides_nothing(
    nodes: list[Node], wanted: list[Shape], strategy: Strategy, random: object, seed: int
) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)
    assert fill(Cell(nodes, seed=seed), wanted, strategy) == fill(Cell(shuffled, seed=seed), wanted, strategy)


@given(some_nodes(), some_nodes(), shapes, shapes, strategies)
@few
def test_a_cell_brought_up_to_date_is_as_a_new_one(
    nodes: list[Node], others: list[Node], first: list[Shape], second: list[Shape], strategy: Strategy
) -> None:
    cell = Cell(nodes)
    placements = fill(cell, first, strategy)
    pool = cell.pool((Term("rack", frozenset("x")),))
    changed = [replace(node, accepts=not node.accepts, labels=(("rack", "y"),)) for node in nodes[:2]] + nodes[2:]
    for now in (changed, others):
        left = [each for number, each in enumerate(placements.values()) if number % 3]
        cell.sync(now, left)
        fresh = Cell(now, left)
        assert state(cell, first + second) == state(fresh, first + second)
        assert cell.totals(pool) == fresh.totals(fresh.pool(pool.terms))
        mark = cell.mark()
        assert fill(cell, second, strategy) == fill(fresh, second, strategy)
        cell.rollback(mark)


@given(some_nodes(), shapes, some_shapes(), st.integers(1, 8), strategies)
@few
def test_many_are_as_good_as_one_after_another(
    nodes: list[Node], before: list[Shape], shape: Shape, count: int, strategy: Strategy
) -> None:
    cell = Cell(nodes)
    there = fill(cell, before, strategy)
    counted = cell.how_many(shape)
    seats = cell.put_many(shape, count, strategy=strategy)
    check_promises(nodes, there | {seat.id: placement(seat, shape) for seat in seats})
    other = Cell(nodes, there.values())
    assert len(seats) == sum(other.put(shape, strategy=strategy) is not None for _ in range(count))
    assert counted is None or len(seats) == min(counted, count)


@given(some_nodes(), shapes, some_shapes(), strategies, st.booleans())
@few
def test_reasons_add_up_and_agree(
    nodes: list[Node], wanted: list[Shape], shape: Shape, strategy: Strategy, pooled: bool
) -> None:
    cell = Cell(nodes)
    fill(cell, wanted, strategy)
    pool = cell.pool((Term("rack", frozenset("x")),)) if pooled else None
    fallen, near = cell.why_not(shape, pool)
    fits = cell.fits(shape, pool, strategy=strategy)
    assert sum(each.nodes for each in fallen) + fits == (pool.nodes if pool else len(nodes))
    assert all(each.missing for each in near)
    seat = cell.put(shape, strategy=strategy, pool=pool)
    assert (seat is not None) == (fits > 0)
    if seat is not None:
        assert seat.fits == fits
        assert cell.could_ever(shape, pool)
    there = cell.nodes_of(pool)
    assert cell.could_ever(shape, pool) is (bool(there) and refusal(shape, there) is None)


@given(some_nodes(), shapes, shapes, strategies)
@few
def test_nodes_in_parts_looked_at_one_by_one_or_together(
    nodes: list[Node], first: list[Shape], second: list[Shape], strategy: Strategy
) -> None:
    """Two nodes are a part here, which has its turn for three places; what changed is looked at singly, or at once."""
    found: list[object] = []
    for few_rows in (0, columns.FEW):
        with (
            patch.object(columns, "PART", 2),
            patch.object(cells, "STAY", 3),
            patch.object(columns, "FEW", few_rows),
            patch.object(row, "FEW", few_rows),
        ):
            cell = Cell(nodes)
            there = fill(cell, first, strategy)
            for gone in list(there)[::3]:
                cell.free(gone)
                del there[gone]
            seats: list[Seat | None] = []
            for number, shape in enumerate(second):
                fits = cell.fits(shape, strategy=strategy)
                seat = cell.put(shape, strategy=strategy, id=f"t{number}")
                assert (seat is not None) == (fits > 0)
                if seat is not None:
                    assert 1 <= seat.fits <= fits
                    there[seat.id] = placement(seat, shape)
                seats.append(seat)
            check_promises(nodes, there)
            assert cell.miscounted() == []
            found.append(seats)
    assert found[0] == found[1]


@given(some_nodes(), shapes, shapes, strategies)
@few
def test_scores_follow_what_typically_comes(
    nodes: list[Node], first: list[Shape], second: list[Shape], strategy: Strategy
) -> None:
    cell = Cell(nodes)
    there = fill(cell, first, strategy)
    for number, shape in enumerate(second):
        fresh = Cell(nodes, there.values())
        for one in (cell, fresh):
            one.foresee(learn({typical(each): 1 for each in second[number:]}))
        seat = cell.put(shape, strategy=strategy, id=f"t{number}")
        assert fresh.put(shape, strategy=strategy, id=f"t{number}") == seat
        if seat is not None:
            there[seat.id] = placement(seat, shape)
