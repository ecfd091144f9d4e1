"""A checkpoint: one sandbox's disk at one moment, with the spec it had. Made in milliseconds whatever its size."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from skerry.model.fields import Frozen
from skerry.model.moves import Moves
from skerry.model.sandbox import SandboxSpec

CHECKPOINTS_PER_SANDBOX_MAX = 1000
NOT_CONTAINED = ("memory", "processes", "connections", "mounts", "/dev/shm")
"""What a disk checkpoint leaves out; every checkpoint says so, so that nobody finds out later."""


class CheckpointState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


_S = CheckpointState
CHECKPOINT_MOVES: Moves[CheckpointState] = {
    (_S.CREATING, _S.READY): "create",
    (_S.CREATING, _S.FAILED): "create",
    (_S.DELETING, _S.DELETED): "delete",
    (_S.CREATING, _S.DELETING): "api",
    (_S.READY, _S.DELETING): "api",
    (_S.FAILED, _S.DELETING): "api",
}


class Origin(StrEnum):
    USER = "user"
    AUTO = "auto"  # by the sandbox's checkpoint policy
    GUEST = "guest"  # by the sandbox itself through its socket
    FORK = "fork"  # taken to fork a running sandbox; removed when its forks exist
    SERVICE = "service"  # of a replica, for those that come after it; the service's, it stays when the replica goes


class CheckpointRequest(Frozen):
    comment: Annotated[str, Field(max_length=1024)] = ""


class Checkpoint(Frozen):
    id: str
    project: str
    sandbox: str
    """Id of the sandbox it was taken of."""
    number: int
    """1, 2, 3 … within its sandbox; `v3` names the third."""
    state: CheckpointState
    origin: Origin
    comment: str
    spec: SandboxSpec
    """The sandbox's spec, labels and env at that moment."""
    volumes: dict[str, str] = {}
    """Name -> id of those that `spec` mounted then; what is in them the checkpoint does not contain."""
    image_digest: str
    node: str
    reason: str | None = None
    request_id: str | None = None
    """The guest's own id of its request, where origin is guest."""
    not_contained: tuple[str, ...] = NOT_CONTAINED
    operation: str | None = None
    created_at: datetime
    frozen_ms: float | None = None
    """How long the sandbox stood still."""


class Change(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"


class PathChange(Frozen):
    path: str
    change: Change


class Diff(Frozen):
    items: list[PathChange]
    truncated: bool
    """More paths changed than the limit of the answer."""
