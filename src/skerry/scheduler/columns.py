"""Nodes as columns of numbers, in one fixed order, so that one numpy call looks at ten thousand of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.snapshot import Amounts, Node

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Devices = tuple[tuple[int, int, int], ...]
"""(index on the node, thousandths, bytes of its memory)."""

RESOURCES = ("cpu", "memory", "disk", "sandboxes")
"""The first columns of `room`; the names of extras follow."""
CPU, MEMORY, DISK, SANDBOXES = range(4)
LARGEST, WHOLE = -2, -1
PART = 1250
"""Nodes that are looked at together: one of so many is as good as one of all, and costs less."""
UNLIMITED = 2**62
FEW = 40
"""Rows that are looked at one by one: numpy takes as long for one as for hundreds."""
LATEST = 512
"""Changes of a part that are remembered by themselves."""


def numbers(rows: Ints) -> list[int]:
    return rows.tolist()


def summed(devices: Ints) -> Ints:
    """Of each node."""
    return np.add.reduce(devices, axis=0)


def fixed_order(nodes: Iterable[Node], seed: int) -> list[Node]:
    """By a hash of the id: the order in which they are listed decides nothing, and neither does their size.

    Nodes that score alike are taken in this order. It matters that it is one order and that it does not follow the
    shapes of nodes: with ties broken at random FGD falls behind plain best fit (docs/performance.md).
    """

    def key(node: Node) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{seed}:{node.id}".encode(), digest_size=8).digest(), node.id

    return sorted(nodes, key=key)


class Needing(Protocol):
    need: Ints
    """As `names` has it."""
    unusual_memory: bool


class Columns:
    """What nodes have, and what of it is free. A row is a node; tables have a line per resource or device, so that
    numpy adds and compares along what is long."""

    def __init__(self, nodes: Sequence[Node], seed: int) -> None:
        self.nodes: list[Node] = fixed_order(nodes, seed)
        self.at = {node.id: row for row, node in enumerate(self.nodes)}
        self.count = len(self.nodes)
        self.every: Ints = np.arange(self.count, dtype=np.int64)
        extras = sorted({name for node in self.nodes for name, _ in node.extras})
        self.names = (*RESOURCES, *extras)
        self.lines = len(self.names) + 2
        """Resources, and at LARGEST and WHOLE most that is free on one device, and devices that are all free."""
        self._label_codes: dict[str, tuple[Ints, dict[str, int]]] = {}
        self._bonus: dict[tuple[float, float], Ints] = {}
        self.tainted = any(node.taints for node in self.nodes)
        self._set_devices()
        self.capacity: Ints = np.zeros((self.lines, self.count), np.int64)
        for row, node in enumerate(self.nodes):
            self.capacity[:, row] = self._capacity(node)
        self.room = self.capacity.copy()
        self.version = 0
        """Grows with every change."""
        self.changed: Ints = np.zeros(self.count, np.int64)
        """By the version of its part, when each row last did."""
        parts = max(1, self.count // PART)
        self.parts = [(self.count * part // parts, self.count * (part + 1) // parts) for part in range(parts)]
        self.part_version = [0] * parts
        self._latest: list[list[int]] = [[] for _ in range(parts)]
        """Of each part the rows of the latest changes, the newest last."""
        self.part_of: list[int] = [part for part, (start, stop) in enumerate(self.parts) for _ in range(start, stop)]

    def _capacity(self, node: Node) -> list[int]:
        extras = dict(node.extras)
        first = (node.cpu_milli, node.memory_bytes, min(node.disk_bytes, UNLIMITED), node.sandboxes_max)
        last = (GPU_MILLI if node.devices else 0, len(node.devices))
        return [*first, *(extras.get(name, 0) for name in self.names[len(RESOURCES) :]), *last]

    def _set_devices(self) -> None:
        self.width = max([1, *(len(node.devices) for node in self.nodes)])
        """Devices of the node that has most."""
        self.kinds = sorted({device.kind for node in self.nodes for device in node.devices})
        codes = {kind: code for code, kind in enumerate(self.kinds)}
        shape = (self.width, self.count)
        self.device_kind: Ints = np.full(shape, -1, np.int64)
        self.device_memory: Ints = np.zeros(shape, np.int64)
        self.device_room: Ints = np.zeros(shape, np.int64)
        """Free thousandths of each. Where there is no device there is 0, which nothing fits."""
        self.device_group: Ints = np.full(shape, -1, np.int64)
        """Devices of a node with the same number are of one kind and share a fast link."""
        for row, node in enumerate(self.nodes):
            groups: dict[tuple[str, int], int] = {}
            for index, device in enumerate(node.devices):
                self.device_kind[index, row] = codes[device.kind]
                self.device_memory[index, row] = device.memory_bytes
                self.device_room[index, row] = GPU_MILLI
                self.device_group[index, row] = groups.setdefault((device.kind, device.link), len(groups))
        self.groups = int(self.device_group.max(initial=-1)) + 1
        self.device_memory_room = np.where(self.device_memory > 0, self.device_memory, UNLIMITED)
        self.device_used = [[0] * len(node.devices) for node in self.nodes]
        self.device_free = [[GPU_MILLI] * len(node.devices) for node in self.nodes]
        """As `device_room`, for looking at one node."""
        self.memory_matters = False
        """Somebody took an amount of a device's memory that is not its share."""
        self.device_count: Ints = np.sum(self.device_kind >= 0, axis=0)
        self.mixed = bool(((self.device_kind != self.device_kind[0]) & (self.device_kind >= 0)).any())
        self.node_kind: Ints = np.maximum(self.device_kind[0], 0)
        self.kind_list = numbers(self.node_kind)
        self.kinds_of = [[codes[device.kind] for device in node.devices] for node in self.nodes]

    def bonus(self, cpu_overcommit: float, memory_overcommit: float) -> Ints | None:
        """What may be promised beyond what is there; None: nothing."""
        if cpu_overcommit == 1.0 and memory_overcommit == 1.0:
            return None
        key = (cpu_overcommit, memory_overcommit)
        if key not in self._bonus:
            self._bonus[key] = np.zeros_like(self.capacity)
            self._promise(key, self.every)
        return self._bonus[key]

    def _promise(self, key: tuple[float, float], rows: Ints) -> None:
        for column, factor in zip((CPU, MEMORY), key, strict=True):
            self._bonus[key][column, rows] = np.floor(self.capacity[column, rows] * (factor - 1.0))

    def renew(self, nodes: Sequence[Node]) -> Ints | None:
        """Put these in the place of those with the same ids. None: they are too different, begin anew."""
        rows = np.array([self.at[node.id] for node in nodes], np.int64)
        for row, node in zip(numbers(rows), nodes, strict=True):
            was = self.nodes[row]
            if was.devices != node.devices or {name for name, _ in node.extras} - {*self.names}:
                return None
        for row, node in zip(numbers(rows), nodes, strict=True):
            capacity = np.array(self._capacity(node), np.int64)
            self.room[:, row] += capacity - self.capacity[:, row]
            self.capacity[:, row] = capacity
            self.nodes[row] = node
            self._touch(row)
        for key in self._bonus:
            self._promise(key, rows)
        for key in list(self._label_codes):
            self._read_label(key, rows)
        self.tainted = self.tainted or any(node.taints for node in nodes)
        return rows

    def label(self, key: str) -> tuple[Ints, dict[str, int]]:
        """The code of each row's value of a label, -1 where it has none, and the codes of the values."""
        if key == "node":
            return self.every, self.at
        if key not in self._label_codes:
            self._label_codes[key] = (np.full(self.count, -1, np.int64), {})
            self._read_label(key, self.every)
        return self._label_codes[key]

    def _read_label(self, key: str, rows: Ints) -> None:
        codes, values = self._label_codes[key]
        for row in numbers(rows):
            value = next((value for name, value in self.nodes[row].labels if name == key), None)
            codes[row] = -1 if value is None else values.setdefault(value, len(values))

    def domains(self, topology: str) -> Ints:
        """Which place each row is in; -1: in none."""
        return self.label(topology)[0]

    def occupy(self, row: int, request: Needing, devices: Devices) -> None:
        self.room[:, row] -= request.need
        if devices:
            self.memory_matters |= request.unusual_memory
            self._share(row, devices, 1)
        self._touch(row)

    def release(self, row: int, request: Needing, devices: Devices) -> None:
        self.room[:, row] += request.need
        if devices:
            self._share(row, devices, -1)
        self._touch(row)

    def _share(self, row: int, devices: Devices, sign: int) -> None:
        used, free = self.device_used[row], self.device_free[row]
        for index, milli, memory_bytes in devices:
            if index < len(used):
                used[index] += sign * milli
                free[index] = max(0, GPU_MILLI - used[index])
                self.device_room[index, row] = free[index]
                if memory_bytes:
                    self.device_memory_room[index, row] -= sign * memory_bytes
        if free:
            self.room[LARGEST, row] = max(free)
            self.room[WHOLE, row] = free.count(GPU_MILLI)

    def _touch(self, row: int) -> None:
        part = self.part_of[row]
        self.version += 1
        self.part_version[part] = self.changed[row] = self.part_version[part] + 1
        latest = self._latest[part]
        latest.append(row)
        if len(latest) > LATEST:
            del latest[: LATEST // 2]

    def few_since(self, version: int, part: int) -> set[int] | None:
        """Rows of a part that changed after `version`; None: they may be many."""
        changes = self.part_version[part] - version
        return set(self._latest[part][-changes:]) if version >= 0 and 0 < changes <= FEW else None

    def since(self, version: int, part: int) -> Ints:
        """The same, however many they are."""
        start, stop = self.parts[part]
        found = (self.changed[start:stop] > version).nonzero()[0]
        found += start
        return found

    def amounts(self, sums: Ints, rows: Ints) -> Amounts:
        """All that these nodes have; `sums` in the order of `names`."""
        kinds = np.bincount(self.device_kind[:, rows].ravel() + 1, minlength=len(self.kinds) + 1)[1:].tolist()
        first = len(RESOURCES)
        return Amounts(
            cpu_milli=int(sums[CPU]),
            memory_bytes=int(sums[MEMORY]),
            gpu_milli=sum(kinds) * GPU_MILLI,
            kinds=tuple((kind, count * GPU_MILLI) for kind, count in zip(self.kinds, kinds, strict=True)),
            extras=tuple(zip(self.names[first:], sums[first:].tolist(), strict=False)),
        )
