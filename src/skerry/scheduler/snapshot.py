"""All that a decision is made from: nodes, what has a place, what waits, and the queues' rules. Times are seconds.

Records are turned into these at the scheduler's door: they are plain, hashable where they are compared, and hold
nothing that a decision does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.model.queue import Policy, Strategy
from skerry.model.tier import PRIORITY_DEFAULT, Tier
from skerry.scheduler.shape import Shape, Term


@dataclass(frozen=True, slots=True)
class Device:
    kind: str
    memory_bytes: int = 0
    """0: not known; shares of it are then not looked at."""
    link: int = 0
    """Devices of a node with the same number share a fast link."""


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int = 2**62
    """Free to be promised. Disks are thin by default, and then this is not what runs out."""
    devices: tuple[Device, ...] = ()
    extras: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    taints: frozenset[str] = frozenset()
    """`key=value`."""
    arch: str = ""
    images: frozenset[str] = frozenset()
    accepts: bool = True
    """Ready, neither cordoned nor draining, its pool not full. What is on it stays."""
    why_not: str = ""
    """Why it does not accept, in a word or two: `unreachable`, `cordoned`, `its disk pool is full`."""
    sandboxes_max: int = 2**31


@dataclass(frozen=True, slots=True)
class Placement:
    """A sandbox that has a place: the ledger is made of these, and usage is nothing but their sum."""

    id: str
    """Of the sandbox."""
    work: str
    """Of the gang or job that it belongs to; its own id where it is alone."""
    node: str
    shape: Shape
    devices: tuple[tuple[int, int, int], ...] = ()
    """(index on the node, thousandths, bytes of its memory)."""
    queue: str = "default"
    project: str = "default"
    user: str = ""
    tier: Tier = Tier.PRODUCTION
    priority: int = PRIORITY_DEFAULT
    since_s: float = 0.0
    ends_s: float | None = None
    """When its max_duration is over; None: not known."""
    minimum: int = 1
    """Members that its work must keep: the rest may be taken one by one, these only all together."""
    size: int = 0
    """Members that its work was made with, whatever became of them. 0: not known."""
    leaving: bool = False
    """Asked to end: its room comes back, and it is not asked again."""
    preemptible: bool = True
    cost_s: float | None = None
    """Work that would be lost, in seconds of running, such as since its newest checkpoint. None: since its start."""

    def lost_s(self, now: float) -> float:
        return now - self.since_s if self.cost_s is None else self.cost_s


@dataclass(frozen=True, slots=True)
class Work:
    """Something that waits: one sandbox, or a gang of them that start together or not at all."""

    id: str
    members: tuple[tuple[str, Shape], ...]
    """(id of the sandbox, what it asks), in the order of their ranks."""
    queue: str = "default"
    project: str = "default"
    user: str = ""
    tier: Tier = Tier.PRODUCTION
    priority: int = PRIORITY_DEFAULT
    submitted_s: float = 0.0
    minimum: int | None = None
    """Members without whom it does not start. None: all. Those beyond it start when there is room."""
    limit_s: float | None = None
    """Its max_duration; None: it may run for ever, and is never backfilled past one that waits."""
    together: str = ""
    """All members in one place of this topology (a label, or `node`). Empty: anywhere."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """None: not named. Keys of `kinds` are kinds of accelerators, counted in thousandths of devices."""

    cpu_milli: int | None = None
    memory_bytes: int | None = None
    gpu_milli: int | None = None
    kinds: tuple[tuple[str, int], ...] = ()
    extras: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
    project: str
    user: str | None = None
    guaranteed: Amounts = Amounts()
    limit: Amounts = Amounts()
    weight: float = 1.0
    running_max: int | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    name: str = "default"
    terms: tuple[Term, ...] = ()
    """Labels of its nodes. Empty: all."""
    policy: Policy = Policy.FAIR_SHARE
    strategy: Strategy = Strategy.AUTO
    backfill: bool = True
    aging_s: float | None = 3600.0
    small_share: float = 0.1
    running_max: int | None = None
    quotas: tuple[Quota, ...] = ()
    preemption: bool = True
    minimum_run_s: float = 60.0
    evictions_left: int = 1000
    """Of its budget for this hour."""


@dataclass(frozen=True)
class Snapshot:
    nodes: tuple[Node, ...]
    placements: tuple[Placement, ...] = ()
    waiting: tuple[Work, ...] = ()
    queues: tuple[Queue, ...] = (Queue(),)
    history: Mapping[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    """(queue, project, user) -> what it has used, decayed, as a dominant share times seconds over the half-life."""
    seed: int = 0
    """Of the one fixed order in which nodes that score alike are taken: the same snapshot, the same plan."""
