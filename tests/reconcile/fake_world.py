"""What outlives a fake agent: its machine, and what befalls its calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from skerry.model.guest_service import HealthStatus, Statuses
from skerry.model.order import Order, Presence
from skerry.model.sandbox import Exit
from skerry.model.sleep import Asleep
from skerry.model.weights import ModelOrder


class Fault(StrEnum):
    BEFORE = "before"  # the connection breaks, nothing was done
    AFTER = "after"  # it was done, the answer is lost
    ERROR = "error"  # it answers 500


@dataclass
class Box:
    order: Order
    generation: int
    presence: Presence
    disk: list[str]
    """What happened to its disk, in order: a fork starts with its source's history."""
    exit: Exit | None = None
    wanted: dict[str, Any] | None = None
    asleep: Asleep | None = None
    services: Statuses = ()
    health: HealthStatus | None = None
    starts: int = 0
    restored: int = 0
    """The newest order to restore that was carried out."""


@dataclass
class World:
    """What outlives the agent's process: the machine."""

    boxes: dict[str, Box] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, list[str]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """id -> what was ordered of it, with `used_bytes` and `content`, what happened to it in order."""
    logs: set[str] = field(default_factory=set)
    """Names under which what deleted sandboxes printed is kept."""
    models: dict[str, ModelOrder] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
