"""The simplest scheduler there is, to test the simulator without the real one: the oldest first, the first node."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.plan import Because, Plan, Start, Waiting
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Snapshot


class Room:
    def __init__(self, snapshot: Snapshot) -> None:
        self.cpu = {node.id: node.cpu_milli for node in snapshot.nodes}
        self.memory = {node.id: node.memory_bytes for node in snapshot.nodes}
        self.devices = {node.id: [GPU_MILLI] * len(node.devices) for node in snapshot.nodes}
        for placement in snapshot.placements:
            self.put(placement.node, placement.shape, placement.devices)

    def put(self, node: str, shape: Shape, devices: tuple[tuple[int, int, int], ...], sign: int = 1) -> None:
        self.cpu[node] -= sign * shape.cpu_milli
        self.memory[node] -= sign * shape.memory_bytes
        for at, milli, _ in devices:
            self.devices[node][at] -= sign * milli

    def find(self, shape: Shape) -> tuple[str, tuple[tuple[int, int, int], ...]] | None:
        for node, cpu in self.cpu.items():
            free = [at for at, milli in enumerate(self.devices[node]) if milli >= shape.gpu_milli][: shape.gpu_count]
            if cpu >= shape.cpu_milli and self.memory[node] >= shape.memory_bytes and len(free) == shape.gpu_count:
                return node, tuple((at, shape.gpu_milli, 0) for at in free)
        return None


class FirstFit:
    def place(self, snapshot: Snapshot, now_s: float) -> Plan:
        return first_fit(snapshot)

    def gone(self, sandboxes: Iterable[str]) -> None:
        """It keeps nothing."""


def first_fit(snapshot: Snapshot) -> Plan:
    room = Room(snapshot)
    empty = Room(Snapshot(snapshot.nodes))
    starts: list[Start] = []
    waiting: dict[str, Waiting] = {}
    for work in sorted(snapshot.waiting, key=lambda each: (each.submitted_s, each.id)):
        done: list[tuple[Start, Shape]] = []
        for member, shape in work.members:
            found = room.find(shape)
            if found is None:
                break
            room.put(found[0], shape, found[1])
            done.append((Start(member, work.id, *found), shape))
        if len(done) == len(work.members):
            starts += [start for start, _ in done]
            continue
        for start, shape in done:
            room.put(start.node, shape, start.devices, -1)
        never = any(empty.find(shape) is None for _, shape in work.members)
        waiting[work.id] = Waiting(Because.NEVER if never else Because.FIT, "", len(waiting) + 1)
    return Plan(tuple(starts), (), waiting)
