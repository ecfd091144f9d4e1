"""A shape, measured against the columns once, for all requests that ask the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import CPU, LARGEST, MEMORY, RESOURCES, UNLIMITED, WHOLE, Columns, Ints, Mask, numbers
from skerry.scheduler.demand import typical
from skerry.scheduler.shape import Shape, Term

NEVER_SHORT = -UNLIMITED
"""What is not asked for is never short, not even on a node where too much of it is promised."""


class Request:
    """What does not change while nodes stay what they are: numbers, and which nodes and devices may be looked at."""

    def __init__(self, shape: Shape, columns: Columns) -> None:
        self.shape = shape
        self.typical = typical(shape)
        self.gpus = shape.gpu_count
        self.milli = shape.gpu_milli if shape.gpu_count == 1 else GPU_MILLI
        extras = dict(shape.extras)
        self.unknown_extras = any(count > 0 and name not in columns.names for name, count in shape.extras)
        amounts = [shape.cpu_milli, shape.memory_bytes, shape.disk_bytes, 1]
        amounts += [extras.get(name, 0) for name in columns.names[len(RESOURCES) :]]
        self.need: Ints = np.array([*amounts, 0, 0], np.int64)
        self.floor = np.where(self.need > 0, self.need, NEVER_SHORT)[:, None]
        if self.gpus == 1:
            self.floor[LARGEST] = self.milli
        elif self.gpus:
            self.floor[WHOLE] = self.gpus
        amounts = numbers(self.floor[:, 0])
        self.asked = [(line, amounts[line]) for line in _short_first(len(amounts)) if amounts[line] > 0]
        """Of which lines it asks how much."""
        self.bonus = columns.bonus(shape.cpu_overcommit, shape.memory_overcommit)
        self.social = bool(shape.labels or shape.neighbours)
        """Others may look at where it is, or it refuses them."""
        self.unusual_memory = bool(shape.gpu_memory_bytes)
        self.held = 0
        """How many have a place."""
        self.looked = False
        self.mask: Mask = np.zeros(columns.count, np.bool_)
        self.device_ok: Mask | None = None
        """Devices of its kinds, where a node may have several."""
        self.has_image: Mask | None = None

    def only(self, columns: Columns) -> Ints | None:
        """The row of the one node that it must be on; None: it may be on any."""
        if not self.shape.node:
            return None
        row = columns.at.get(self.shape.node)
        return columns.every[:0] if row is None else columns.every[row : row + 1]

    def prepare(self, columns: Columns) -> None:
        """Look at all nodes, once: only for what is to be given a place."""
        if not self.looked:
            self.looked = True
            if self.shape.gpu_kinds and columns.mixed:
                self.device_ok = np.zeros(columns.device_kind.shape, np.bool_)
            if self.shape.image:
                self.has_image = np.zeros(columns.count, np.bool_)
            only = self.only(columns)
            self.look(columns, columns.every if only is None else only)

    def look(self, columns: Columns, rows: Ints) -> None:
        """Again at these rows, whose nodes have become others."""
        if self.device_ok is not None:
            self.device_ok[:, rows] = self.kind_ok(columns, rows)
        passed = accepting(columns, rows) & self.whole(columns, rows)
        for _, ok in fixed_filters(self, columns, rows):
            passed &= ok
        self.mask[rows] = passed
        if self.has_image is not None:
            image = self.shape.image
            self.has_image[rows] = [image in columns.nodes[row].images for row in numbers(rows)]

    def kind_ok(self, columns: Columns, rows: Ints) -> Mask:
        """Devices that are of its kinds."""
        kind = columns.device_kind[:, rows]
        if not self.shape.gpu_kinds:
            return kind >= 0
        allowed = [code for code, name in enumerate(columns.kinds) if name in self.shape.gpu_kinds]
        return np.isin(kind, np.array(allowed, np.int64))

    def device_need(self, columns: Columns, rows: Ints) -> Ints:
        """Bytes of each device's memory that it would take there; 0 where the memory is not known."""
        memory = columns.device_memory.take(rows, axis=1)
        if self.shape.gpu_memory_bytes:
            return np.where(memory > 0, self.shape.gpu_memory_bytes, 0)
        return memory // GPU_MILLI * self.milli + memory % GPU_MILLI * self.milli // GPU_MILLI

    def whole(self, columns: Columns, rows: Ints) -> Mask:
        """Rows where it would fit if nothing else were there."""
        ok: Mask = np.all(columns.capacity[:, rows] >= self.floor, axis=0)
        if self.unknown_extras:
            ok &= False
        if self.gpus:
            devices = self.kind_ok(columns, rows)
            if self.shape.gpu_memory_bytes:
                memory = columns.device_memory[:, rows]
                devices &= (memory == 0) | (memory >= self.shape.gpu_memory_bytes)
            ok &= np.sum(devices, axis=0) >= self.gpus
        return ok


def _short_first(lines: int) -> list[int]:
    """What is short most often first, so that few are looked at where it does not fit."""
    return [LARGEST % lines, WHOLE % lines, CPU, MEMORY, *range(MEMORY + 1, lines - 2)]


def accepting(columns: Columns, rows: Ints) -> Mask:
    return np.array([columns.nodes[row].accepts for row in numbers(rows)], np.bool_)


def fixed_filters(request: Request, columns: Columns, rows: Ints) -> Iterator[tuple[str, Mask]]:
    """What a node is, apart from its size, in the order in which it is told. Only those that the shape names."""
    shape = request.shape
    nodes = columns.nodes
    if shape.node:
        yield "node", rows == columns.at.get(shape.node, -1)
    if shape.arch:
        yield "arch", np.array([nodes[row].arch == shape.arch for row in numbers(rows)], np.bool_)
    if shape.terms:
        yield "labels", terms_pass(shape.terms, columns, rows)
    if columns.tainted:
        taints = [nodes[row].taints for row in numbers(rows)]
        fine = {each for each in set(taints) if tolerates(shape.tolerations, each)}
        yield "taints", np.array([each in fine for each in taints], np.bool_)
    if request.gpus:
        yield "gpu-kind", np.any(request.kind_ok(columns, rows), axis=0)


def terms_pass(terms: tuple[Term, ...], columns: Columns, rows: Ints) -> Mask:
    passed = np.ones(len(rows), np.bool_)
    for term in terms:
        every_code, values = columns.label(term.key)
        codes = every_code[rows]
        if term.absent:
            passed &= codes < 0
        elif term.values:
            passed &= np.isin(codes, [values[value] for value in term.values if value in values])
        elif not term.unless:
            passed &= codes >= 0
        if term.unless:
            passed &= ~np.isin(codes, [values[value] for value in term.unless if value in values])
    return passed


def term_passes(term: Term, has: str | None) -> bool:
    """As `terms_pass`, of one node's label."""
    if term.absent:
        return has is None
    passed = has in term.values if term.values else bool(term.unless) or has is not None
    return passed and has not in term.unless


def tolerates(tolerations: frozenset[str], taints: frozenset[str]) -> bool:
    return "*" in tolerations or all(taint in tolerations or taint.split("=", 1)[0] in tolerations for taint in taints)
