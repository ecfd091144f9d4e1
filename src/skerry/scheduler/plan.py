"""What was decided, and why: starts, evictions, and for everything that waits on what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Because(StrEnum):
    """What keeps work waiting."""

    FIT = "fit"  # no node has room for it now
    GANG = "gang"  # some of its members fit, not enough of them
    QUEUE = "queue"  # those ahead of it, which it may not delay
    QUOTA = "quota"  # its project or user has all that its limit allows
    RUNNING_MAX = "running-max"  # as many run as may at once
    RESERVED = "reserved"  # room there is, kept for others: guaranteed, for small work, for the head
    PREEMPTING = "preempting"  # what it takes the place of is being stopped
    NO_NODES = "no-nodes"  # its queue has no node that accepts work
    NEVER = "never"  # no node of its queue could have it, however empty


@dataclass(frozen=True, slots=True)
class Fallen:
    """Nodes that one filter took out, in the order of the filters; with those that fit, all the nodes."""

    filter: str
    """cpu, memory, disk, gpu, gpu-kind, gpu-memory, extras, arch, labels, taints, affinity, spread, cordoned …"""
    nodes: int


@dataclass(frozen=True, slots=True)
class Near:
    """A node that comes nearest to having room, and what it lacks."""

    node: str
    missing: tuple[tuple[str, int], ...]
    """(resource, how much more it would take), in the shape's own units."""


@dataclass(frozen=True, slots=True)
class Waiting:
    because: Because
    say: str
    """One sentence, for people."""
    position: int
    """In its queue, from 1."""
    ahead: tuple[str, ...] = ()
    """Ids of the first few ahead of it."""
    fallen: tuple[Fallen, ...] = ()
    near: tuple[Near, ...] = ()
    starts_s: float | None = None
    """When it is expected to start, by the limits of what runs; None where these do not tell."""


@dataclass(frozen=True, slots=True)
class Start:
    id: str
    """Of the sandbox."""
    work: str
    node: str
    devices: tuple[tuple[int, int, int], ...] = ()
    """(index on the node, thousandths, bytes of its memory)."""
    fits: int = 0
    """Nodes that it could have had."""
    terms: tuple[tuple[str, float], ...] = ()
    """What spoke for this one: the terms of its score."""
    backfilled: bool = False


@dataclass(frozen=True, slots=True)
class Eviction:
    """A sandbox to be stopped."""

    id: str
    work: str
    for_work: str
    say: str
    reclaim: bool = False
    """It had borrowed what is guaranteed to others."""


@dataclass(frozen=True)
class Plan:
    starts: tuple[Start, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    waiting: Mapping[str, Waiting] = field(default_factory=dict[str, Waiting])
    """Work -> why."""
