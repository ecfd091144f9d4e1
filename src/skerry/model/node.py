"""A node: one machine that runs sandboxes. What it says of itself, and what an operator has set."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from skerry.model.fields import LABELS_MAX, Frozen, Labels, matching
from skerry.model.resources import Accelerator, Extras, LabelKey, LabelValue, Total

TAINTS_MAX = 32
RANGES_MAX = 1000

if TYPE_CHECKING:
    Taint = str
else:
    Taint = Annotated[
        matching(r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?=[!-~ ]{0,256}$", "KEY=VALUE, such as team=vision"),
        Field(max_length=320),
    ]


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
    """Its own, and those that it was given with `skerry node label`."""
    taints: list[str] = []
    """KEY=VALUE: only work that tolerates each of them is placed here."""
    own_labels: Labels = {}
    """Those of its own settings (node_labels)."""
    own_taints: list[str] = []
    """Those of its own settings (node_taints)."""
    arch: str = ""
    accelerators: list[Accelerator] = []
    extras: Extras = {}
    ranges: list[str] = []
    """Addresses that it has a route to, beyond the default one and those of its sandboxes: no network has them."""
    cordoned: bool = False
    """Nothing more is placed here; what is here stays."""
    draining: bool = False
    """Cordoned, and what is here is moved or stopped."""
    seen_at: datetime

    @property
    def accepts(self) -> bool:
        return self.state is NodeState.READY and not self.cordoned and not self.draining


class Marks(Frozen):
    """What an operator has set of a node. Kept apart from what its agent says, which is written anew all the time."""

    labels: dict[str, str] = {}
    taints: dict[str, str] = {}
    cordoned: bool = False
    draining: bool = False

    def over(self, node: Node) -> Node:
        """The node as it counts: its own, and what was set over it."""
        return node.model_copy(
            update={
                "labels": {**node.own_labels, **self.labels},
                "taints": texts_of({**pairs_of(node.own_taints), **self.taints}),
                "cordoned": self.cordoned,
                "draining": self.draining,
            }
        )


def pairs_of(taints: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (taint.partition("=") for taint in taints)}


def texts_of(taints: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(taints.items())]


class NodeUpdate(Frozen):
    """Of labels and taints only those that are named change; null takes one away."""

    labels: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=LABELS_MAX)] = {}
    taints: Annotated[dict[LabelKey, LabelValue | None], Field(max_length=TAINTS_MAX)] = {}

    @model_validator(mode="after")
    def _values_can_be_printed(self) -> NodeUpdate:
        for field, given in (("labels", self.labels), ("taints", self.taints)):
            for key, value in given.items():
                if value is not None and not value.isprintable():
                    raise ValueError(f"{field}.{key}: a value is at most 256 printable characters")
        return self


class NodeWithUse(Node):
    """The record with what is so at this moment."""

    used: Total = Total()
    """By sandboxes that have a place here, awake or asleep."""
    running: int = 0
    """How many they are: 0 tells that a drain is done."""
    sandboxes: int = 0
    """On it, in any state."""


class Capacity(Frozen):
    """What an agent says of its machine."""

    cpu: float
    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    labels: Labels = {}
    taints: list[Taint] = []
    arch: str = ""
    accelerators: list[Accelerator] = []
    extras: Extras = {}
    ranges: list[str] = []
    kernel: str
    runtime: str
