"""The cell as one would first write it, node by node and without numbers in columns: what the real one is held to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.cell import Seat
from skerry.scheduler.plan import Fallen, Near
from skerry.scheduler.shape import Shape, Term
from skerry.scheduler.snapshot import Amounts, Node, Placement

Devices = tuple[tuple[int, int, int], ...]


class PlainPool:
    def __init__(self, terms: tuple[Term, ...], nodes: Iterable[Node]) -> None:
        self.terms = terms
        self.there = [node for node in nodes if all(_passes(term, dict(node.labels)) for term in terms)]
        self.nodes = len(self.there)
        self.accepting = sum(node.accepts for node in self.there)


class PlainCell:
    """Takes the first node by id."""

    def __init__(self, nodes: Sequence[Node], placements: Iterable[Placement] = (), *, seed: int = 0) -> None:
        del seed
        self.nodes = sorted(nodes, key=lambda node: node.id)
        self.held: dict[str, Placement] = {placement.id: placement for placement in placements}
        self._pools: dict[tuple[Term, ...], PlainPool] = {}
        self._marks: list[dict[str, Placement]] = []

    def expect(self, waiting: Any) -> None:
        del waiting

    def put(self, shape: Shape, *, strategy: Any, pool: Any = None, work: str = "", id: str = "") -> Seat | None:
        del strategy
        fitting = [node for node in (pool.there if pool else self.nodes) if self.has_room(node, shape)]
        if not fitting:
            return None
        devices = self._devices(fitting[0], shape) or ()
        id = id or f"~{len(self.held)}"
        self.held[id] = Placement(id, work or id, fitting[0].id, shape, devices)
        return Seat(id, work or id, fitting[0].id, devices, (), len(fitting))

    def put_many(self, shape: Shape, count: int, *, ids: Sequence[str] = (), **where: Any) -> list[Seat]:
        seats: list[Seat] = []
        while len(seats) < count:
            seat = self.put(shape, id=ids[len(seats)] if ids else "", **where)
            if seat is None:
                break
            seats.append(seat)
        return seats

    def take(self, placement: Placement) -> None:
        self.held[placement.id] = placement

    def free(self, seat: Any) -> None:
        self.held.pop(seat if isinstance(seat, str) else seat.id, None)

    def mark(self) -> int:
        self._marks.append(dict(self.held))
        return len(self._marks)

    def rollback(self, mark: int) -> None:
        self.held = self._marks[mark - 1]
        del self._marks[mark - 1 :]

    def keep(self, mark: int) -> None:
        del self._marks[mark - 1 :]

    def pool(self, terms: Iterable[Term]) -> PlainPool:
        key = tuple(terms)
        return self._pools.setdefault(key, PlainPool(key, self.nodes))

    def totals(self, pool: Any = None) -> Amounts:
        nodes = pool.there if pool else self.nodes
        return Amounts(
            sum(node.cpu_milli for node in nodes),
            sum(node.memory_bytes for node in nodes),
            sum(len(node.devices) for node in nodes) * GPU_MILLI,
        )

    def fits(self, shape: Shape, pool: Any = None) -> int:
        return sum(self.has_room(node, shape) for node in (pool.there if pool else self.nodes))

    def how_many(self, shape: Shape, pool: Any = None) -> int:
        mark = self.mark()
        found = len(self.put_many(shape, 10_000, strategy=None, pool=pool))
        self.rollback(mark)
        return found

    def room_ever(self, shape: Shape, pool: Any = None) -> int:
        return PlainCell(pool.there if pool else self.nodes).how_many(shape)

    def room_with(self, *_: Any) -> None:
        """It does not know: who asks then tries."""

    def could_ever(self, shape: Shape, pool: Any = None) -> bool:
        nodes = [replace(node, accepts=True) for node in (pool.there if pool else self.nodes)]
        return PlainCell(nodes).fits(shape) > 0

    def nodes_of(self, pool: Any = None) -> list[Node]:
        return pool.there if pool else self.nodes

    def why_not(self, shape: Shape, pool: Any = None, near: int = 3) -> tuple[tuple[Fallen, ...], tuple[Near, ...]]:
        del near
        out = (pool.nodes if pool else len(self.nodes)) - self.fits(shape, pool)
        return (Fallen("room", out),) if out else (), ()

    # One node

    def has_room(self, node: Node, shape: Shape) -> bool:
        there = [each.shape for each in self.held.values() if each.node == node.id]
        extras = dict(node.extras)
        asks = (
            (shape.cpu_milli, node.cpu_milli, shape.cpu_overcommit, sum(each.cpu_milli for each in there)),
            (shape.memory_bytes, node.memory_bytes, shape.memory_overcommit, sum(each.memory_bytes for each in there)),
            (shape.disk_bytes, node.disk_bytes, 1, sum(each.disk_bytes for each in there)),
            (1, node.sandboxes_max, 1, len(there)),
            *(
                (more, extras.get(name, 0), 1, sum(dict(each.extras).get(name, 0) for each in there))
                for name, more in shape.extras
            ),
        )
        return (
            node.accepts
            and shape.node in ("", node.id)
            and shape.arch in ("", node.arch)
            and all(_passes(term, dict(node.labels)) for term in shape.terms)
            and all({"*", taint, taint.split("=")[0]} & shape.tolerations for taint in node.taints)
            and all(not more or (more <= has and used + more <= has * factor) for more, has, factor, used in asks)
            and self._devices(node, shape) is not None
        )

    def _devices(self, node: Node, shape: Shape) -> Devices | None:
        if not shape.gpu_count:
            return ()
        there = [part for each in self.held.values() if each.node == node.id for part in each.devices]
        found: list[tuple[int, int, int]] = []
        for index, device in enumerate(node.devices):
            bytes_ = shape.gpu_memory_bytes or device.memory_bytes * shape.gpu_milli // GPU_MILLI
            bytes_ = bytes_ if device.memory_bytes else 0
            milli_used = sum(milli for at, milli, _ in there if at == index)
            bytes_used = sum(used for at, _, used in there if at == index)
            if (
                (not shape.gpu_kinds or device.kind in shape.gpu_kinds)
                and milli_used + shape.gpu_milli <= GPU_MILLI
                and (not device.memory_bytes or bytes_used + bytes_ <= device.memory_bytes)
            ):
                found.append((index, shape.gpu_milli, bytes_))
        return tuple(found[: shape.gpu_count]) if len(found) >= shape.gpu_count else None


def _passes(term: Term, labels: dict[str, str]) -> bool:
    value = labels.get(term.key)
    if term.absent:
        return value is None
    if term.values or not term.unless:
        return value is not None and (not term.values or value in term.values) and value not in term.unless
    return value not in term.unless
