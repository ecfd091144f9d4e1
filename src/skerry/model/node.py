"""A node: one machine that runs sandboxes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from skerry.model.fields import Frozen, Labels


class NodeState(StrEnum):
    READY = "ready"
    UNREACHABLE = "unreachable"  # no word from it; nothing on it is killed for that


class Node(Frozen):
    id: str
    name: str
    state: NodeState
    agent_socket: str
    cpu: float
    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int = 0
    labels: Labels = {}
    seen_at: datetime


class Capacity(Frozen):
    """What an agent says of its machine."""

    cpu: float
    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    kernel: str
    runtime: str
