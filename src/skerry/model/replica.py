"""What a sandbox that is a replica of a service knows of it: whose, of which revision, and what is asked of it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum

from skerry.model.fields import NAME_LENGTH_MAX, Frozen
from skerry.model.identity import make_id


class Role(StrEnum):
    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"


class ReplicaOf(Frozen):
    """A part of its sandbox's record."""

    service: str
    """Id."""
    number: int = 0
    """Counts the replicas of the service, of all its revisions, from 1."""
    revision: int
    role: Role = Role.BOTH
    port: int = 0
    ready_s: float = 60.0
    """Not healthy so long after its start, it is called unhealthy."""
    patience_s: float = 60.0
    """Unhealthy for so long, one that was healthy is replaced."""
    healthy_at: datetime | None = None
    """When it first was. None: never, so that nobody was sent to it."""
    draining_at: datetime | None = None
    """Since when it gets no new requests; when it has ended those it had it goes."""
    woken: bool = False
    """It was stopped, and started again on its disk: that says nothing of how long a new one takes."""
    parked: bool = False
    """It is stopped, or being so, until somebody wants the service again."""


def replica_id(service: str, number: int) -> str:
    """The same number has the same one, so that no replica is ever made twice."""
    return make_id("sandbox", hashlib.sha256(f"{service}/{number}".encode()).digest()[:6])


def replica_name(service: str, number: int) -> str:
    """Begins with an id, as no name does that people choose."""
    return f"{service}-{number}"


def replica_hostname(name: str, number: int) -> str:
    end = f"-{number}"
    return name[: NAME_LENGTH_MAX - len(end)].rstrip("-") + end
