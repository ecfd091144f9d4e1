"""Why something waits, or why it is where it is."""

from __future__ import annotations

from datetime import datetime

from skerry.model.fields import Frozen
from skerry.model.tier import Tier


class Fell(Frozen):
    """Nodes that one filter took out."""

    filter: str
    nodes: int


class Nearest(Frozen):
    """A node that comes nearest to having room."""

    node: str
    missing: dict[str, int]
    """Resource -> how much more it would take: cpu and gpu in thousandths, the rest as it is counted."""


class Wait(Frozen):
    because: str
    """fit, gang, queue, quota, running-max, reserved, preempting, no-nodes, never; or source: what it starts from is
    not there yet."""
    say: str
    position: int | None = None
    """In its queue, from 1."""
    ahead: list[str] = []
    """Names of the first few."""
    fallen: list[Fell] = []
    near: list[Nearest] = []
    starts_at: datetime | None = None
    """When it is expected to start, by the limits of what runs. None: these do not tell."""


class Seat(Frozen):
    """A place that a sandbox has, or had last."""

    sandbox: str
    """Its name."""
    node: str | None
    say: str
    at: datetime


class Explanation(Frozen):
    id: str
    noun: str
    name: str
    state: str
    queue: str
    tier: Tier
    priority: int
    pending: int = 0
    """Sandboxes that wait; of a job or a service, of all of it."""
    waiting: Wait | None = None
    """Of a job or a service, the first of what waits of it. None: nothing does, or the scheduler has not looked yet."""
    placed: list[Seat] = []
    """Of a job or a service, the first few."""
    says: list[str] = []
    """Of a service, sentences: why it has as many replicas as it has, why it is not healthy, what those of its replicas
    that do not serve are at."""
