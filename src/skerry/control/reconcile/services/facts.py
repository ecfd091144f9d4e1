"""What a decision on a service is made from, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from skerry.model.checkpoint import Checkpoint
from skerry.model.replica import ReplicaOf, Role
from skerry.model.sandbox import Sandbox
from skerry.model.service import Service


@dataclass(frozen=True)
class Facts:
    service: Service
    boxes: Sequence[Sandbox]
    """Its replicas' sandboxes that are not deleted."""
    in_flight: Mapping[str, int]
    """By id: requests under way, as far as is known."""
    idle: frozenset[str]
    """Ids of those that drain at which no gateway has any under way, nor will have."""
    now: datetime
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    """By id: those that its record names, as far as they are known."""
    taking: frozenset[str] = frozenset()
    """Ids of machines that take somebody; looked up only while a fork waits for a place."""


@dataclass
class Plan:
    make: list[tuple[int, Role]] = field(default_factory=list[tuple[int, Role]])
    """(revision, role)."""
    wake: list[Sandbox] = field(default_factory=list[Sandbox])
    """Parked ones to be started."""
    drain: list[Sandbox] = field(default_factory=list[Sandbox])
    park: list[Sandbox] = field(default_factory=list[Sandbox])
    delete: list[Sandbox] = field(default_factory=list[Sandbox])
    healthy: list[Sandbox] = field(default_factory=list[Sandbox])
    """For the first time."""
    take: dict[int, Sandbox] = field(default_factory=dict[int, Sandbox])
    """Revision -> whom a checkpoint is taken of."""
    forget: list[int] = field(default_factory=list[int])
    """Revisions whose checkpoint goes with them."""
    take_again: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """Revision whose checkpoint could not be made -> when another is to be."""
    unfork: list[Sandbox] = field(default_factory=list[Sandbox])
    """Those that wait are to start from the image instead."""
    spoilt: list[Checkpoint] = field(default_factory=list[Checkpoint])
    """Nobody is to start from them again."""
    sources: dict[int, Checkpoint] = field(default_factory=dict[int, Checkpoint])
    """Revision -> what those that are made start from."""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the service's record."""
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(event, message)."""
    settled: str | None = None
    """Its operation has ended: "" well, else why not."""
    over: bool = False
    """Nothing is left of one that is being deleted."""
    due_at: datetime | None = None
    """When it is to be looked at again, whatever happens."""

    def does_nothing(self) -> bool:
        acts = (self.make, self.wake, self.drain, self.park, self.delete, self.healthy, self.changes, self.told)
        forks = (self.take, self.forget, self.spoilt, self.unfork)
        return not any(acts) and not any(forks) and self.settled is None and not self.over

    def at(self, moment: datetime | None) -> None:
        if moment is not None:
            self.due_at = moment if self.due_at is None else min(self.due_at, moment)


def replica_of(box: Sandbox) -> ReplicaOf:
    assert box.replica is not None, "only replicas are looked at here"
    return box.replica
