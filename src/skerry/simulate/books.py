"""What is in use on the simulated nodes, counted apart from the scheduler, so that a promise too many is found out."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.errors import Failed
from skerry.model.resources import GPU_MILLI
from skerry.scheduler.snapshot import Node, Placement
from skerry.simulate.trace import Totals, capacity, gpu_asked

Owner = tuple[str, str]
"""(project, user)."""


class Books:
    """Lists and not arrays: one node at a time is changed, and a list is three times as quick at that."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.whole = capacity(nodes)
        self._at = {node.id: at for at, node in enumerate(nodes)}
        self.cpu_free = [node.cpu_milli for node in nodes]
        self.memory_free = [node.memory_bytes for node in nodes]
        self.gpus_free = [[GPU_MILLI] * len(node.devices) for node in nodes]
        self._used = [0, 0, 0]
        self._owned: dict[Owner, list[int]] = {}
        self._used_s = [0.0, 0.0, 0.0]
        self._moment_s = 0.0

    @property
    def used(self) -> Totals:
        return Totals(*self._used)

    @property
    def used_s(self) -> Totals:
        """Summed up over time, in seconds of each resource."""
        return Totals(*self._used_s)

    def put(self, placement: Placement) -> None:
        self._change(placement, -1)

    def take(self, placement: Placement) -> None:
        self._change(placement, 1)

    def advance(self, moment_s: float) -> None:
        """Call before a change."""
        passed_s = moment_s - self._moment_s
        if passed_s < 0:
            raise Failed(f"time went back from {self._moment_s} to {moment_s} in the simulation")
        for part, used in enumerate(self._used):
            self._used_s[part] += used * passed_s
        self._moment_s = moment_s

    def shares(self) -> dict[Owner, float]:
        """Dominant share of each that has something."""
        return {owner: Totals(*used).share_of(self.whole) for owner, used in self._owned.items()}

    def project_shares(self) -> dict[str, float]:
        used: dict[str, list[int]] = {}
        for (project, _), parts in self._owned.items():
            sums = used.setdefault(project, [0, 0, 0])
            for part in range(3):
                sums[part] += parts[part]
        return {project: Totals(*parts).share_of(self.whole) for project, parts in used.items()}

    def _change(self, placement: Placement, sign: int) -> None:
        shape = placement.shape
        at = self._at[placement.node]
        self.cpu_free[at] += sign * shape.cpu_milli
        self.memory_free[at] += sign * shape.memory_bytes
        gpus = self.gpus_free[at]
        for device, milli, _ in placement.devices:
            gpus[device] += sign * milli
            if not 0 <= gpus[device] <= GPU_MILLI:
                raise Failed(f"device {device} of {placement.node} was promised twice, to {placement.id} at last")
        if self.cpu_free[at] < 0 or self.memory_free[at] < 0:
            raise Failed(f"{placement.node} was promised more than it has, to {placement.id} at last")
        if sum(milli for _, milli, _ in placement.devices) != gpu_asked(shape):
            raise Failed(f"{placement.id} asks {gpu_asked(shape)} thousandths of devices and was given others")
        owned = self._owned.setdefault((placement.project, placement.user), [0, 0, 0])
        for part, amount in enumerate((shape.cpu_milli, shape.memory_bytes, gpu_asked(shape))):
            self._used[part] -= sign * amount
            owned[part] -= sign * amount
        if not any(owned):
            del self._owned[placement.project, placement.user]
