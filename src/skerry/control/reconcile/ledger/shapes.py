"""Records at the scheduler's door: what a sandbox asks and what a node has, in its own plain words.

Requests that ask the same have one shape, and it is one object: the scheduler tells them apart by that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skerry.model.node import Node, NodeState
from skerry.model.queue import QueueSpec
from skerry.model.resources import GPU_MILLI, Demand, PlacementRules
from skerry.model.tier import Tier
from skerry.scheduler import shape as of_shapes
from skerry.scheduler import snapshot
from skerry.scheduler.rules import terms_of
from skerry.scheduler.shape import Neighbour, Shape
from skerry.store.ledger import SandboxRow

SHAPES_MAX = 20_000
"""Kept; then all are made anew."""
DISK_FREE = 2**62
TIERS = tuple(Tier)
_DEMAND = frozenset(Demand.model_fields)
GANG = "\0gang"
"""A label that members of one gang or job have and nobody can give: spread counts by it where it names no labels."""


@dataclass(frozen=True)
class Limits:
    """What a server is set to, where its queues say nothing else."""

    cpu_overcommit: float
    memory_overcommit: float
    sandboxes_max: int
    """On one machine, in any state but deleted."""
    disk_reserve_bytes: int


class Shapes:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: Mapping[str, QueueSpec] = {}
        self._kept: dict[tuple[Any, ...], Shape] = {}
        self.looked: frozenset[str] = frozenset()
        """Labels of sandboxes that some sandbox's affinity or spread looks at: only those are in shapes."""

    def renew(self, queues: Mapping[str, QueueSpec]) -> None:
        """With other queues, what a node may be promised is another."""
        self._queues = queues
        self._kept.clear()

    def of_row(self, row: SandboxRow, node: str = "", *, has_disk: bool = False) -> Shape:
        """`node`: the one where it must be. `has_disk`: it needs no new one."""
        labels = tuple(sorted((key, row.labels[key]) for key in self.looked & row.labels.keys()))
        spreads = row.asks is not None and '"spread"' in row.asks
        gang = (row.gang or row.job or row.id) if spreads else ""
        key = (row.cpu, row.memory_bytes, row.asks, row.queue, row.tier, labels, gang, node, has_disk)
        found = self._kept.get(key)
        if found is None:
            asks: dict[str, Any] = {} if row.asks is None else json.loads(row.asks)
            found = self._made(row.cpu, row.memory_bytes, asks, row.queue, TIERS[row.tier], labels, gang)
            if node:
                found = replace(found, node=node, disk_bytes=0 if has_disk else 1)
            if len(self._kept) >= SHAPES_MAX:
                self._kept.clear()
            self._kept[key] = found
        return found

    def together(self, row: SandboxRow) -> str:
        """The topology in one place of which all of its gang are."""
        if row.asks is None or '"together"' not in row.asks:
            return ""
        return json.loads(row.asks)["placement"].get("together") or ""

    def _made(
        self,
        cpu: float,
        memory_bytes: int,
        asks: Mapping[str, Any],
        queue: str,
        tier: Tier,
        labels: tuple[tuple[str, str], ...],
        gang: str,
    ) -> Shape:
        rules = PlacementRules.model_validate(asks.get("placement", {}))
        spec = self._queues.get(queue)
        own = ((GANG, gang),) if gang else ()
        self.looked |= {
            key for each in (*rules.near, *rules.away, *rules.spread) for key in each.labels if key not in self.looked
        }
        return replace(
            alone(cpu, memory_bytes, Demand.model_validate({key: asks[key] for key in _DEMAND & asks.keys()}), rules),
            disk_bytes=1,
            neighbours=tuple(
                Neighbour(tuple(sorted(each.labels.items())), each.topology, away, each.required)
                for away, wishes in ((False, rules.near), (True, rules.away))
                for each in wishes
            ),
            spreads=tuple(
                of_shapes.Spread(tuple(sorted(each.labels.items())) or own, each.topology, each.skew, each.required)
                for each in rules.spread
            ),
            labels=labels + own,
            cpu_overcommit=(spec.cpu_overcommit if spec else {}).get(tier, self._limits.cpu_overcommit),
            memory_overcommit=(spec.memory_overcommit if spec else {}).get(tier, self._limits.memory_overcommit),
        )

    def of_node(self, node: Node, resting: int) -> snapshot.Node:
        """`resting`: sandboxes on it that have no place, whose disks count too."""
        full = node.disk_free_bytes <= self._limits.disk_reserve_bytes
        return snapshot.Node(
            id=node.id,
            cpu_milli=round(node.cpu * 1000),
            memory_bytes=node.memory_bytes,
            disk_bytes=0 if full else DISK_FREE,
            devices=tuple(_devices(node)),
            extras=tuple(sorted(node.extras.items())),
            labels=tuple(sorted(node.labels.items())),
            taints=frozenset(node.taints),
            arch=node.arch,
            accepts=node.accepts,
            why_not=why_not(node),
            sandboxes_max=max(0, self._limits.sandboxes_max - resting),
        )


def alone(cpu: float, memory_bytes: int, demand: Demand, rules: PlacementRules) -> Shape:
    """What a machine must have and be for it, whoever else is there."""
    gpu = demand.gpu
    return Shape(
        cpu_milli=round(cpu * 1000),
        memory_bytes=memory_bytes,
        gpu_count=int(gpu) if gpu >= 1 else 1 if gpu else 0,
        gpu_milli=GPU_MILLI if gpu >= 1 or not gpu else round(gpu * GPU_MILLI),
        gpu_memory_bytes=demand.gpu_memory or 0,
        gpu_kinds=frozenset(demand.gpu_kind),
        extras=tuple(sorted(demand.extras.items())),
        arch=rules.arch or "",
        terms=terms_of(rules.nodes),
        tolerations=frozenset(rules.tolerations),
    )


def why_not(node: Node) -> str:
    if node.state is not NodeState.READY:
        return node.state.value
    return "draining" if node.draining else "cordoned" if node.cordoned else ""


def _devices(node: Node) -> Iterable[snapshot.Device]:
    link = 0
    for each in node.accelerators:
        size = each.link_size or each.count
        for number in range(each.count):
            yield snapshot.Device(each.kind, each.memory, link + number // size)
        link += -(-each.count // size)
