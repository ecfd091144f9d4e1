"""What one sandbox asks of a node, hashable, so that requests that ask the same share one answer."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.model.resources import GPU_MILLI


@dataclass(frozen=True, slots=True)
class Term:
    """A required label of the node: one of `values` if there are any, none of `unless`."""

    key: str
    values: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()
    absent: bool = False
    """It must not have the label at all."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Others with all of `labels`, in the same place: wanted, or (`away`) not wanted."""

    labels: tuple[tuple[str, str], ...]
    topology: str = "node"
    """`node`, or a label of nodes: those with one value of it are one place."""
    away: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class Spread:
    labels: tuple[tuple[str, str], ...]
    topology: str = "node"
    skew: int = 1
    required: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    cpu_milli: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpu_count: int = 0
    """Devices. More than one are whole ones."""
    gpu_milli: int = GPU_MILLI
    """Thousandths of each."""
    gpu_memory_bytes: int = 0
    """Of each device; 0: `gpu_milli` thousandths of its memory."""
    gpu_kinds: frozenset[str] = frozenset()
    """Empty: any."""
    extras: tuple[tuple[str, int], ...] = ()
    """Sorted by name."""
    arch: str = ""
    """Empty: any."""
    node: str = ""
    """The one node that it must be on, such as where its disk or volume is. Empty: any."""
    terms: tuple[Term, ...] = ()
    tolerations: frozenset[str] = frozenset()
    """`key=value`, `key`, `*`."""
    neighbours: tuple[Neighbour, ...] = ()
    spreads: tuple[Spread, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Its own, which others' `neighbours` and `spreads` look at. Only those that somebody looks at need be here."""
    image: str = ""
    """Digest. Nodes that have it are preferred. Empty: no preference."""
    cpu_overcommit: float = 1.0
    memory_overcommit: float = 1.0
    """How far a node may be promised when it is this shape that asks."""
