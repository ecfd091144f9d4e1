"""What it takes to change each field of a sandbox. Without pydantic: the command line plans by it, and starts fast."""

from __future__ import annotations

from enum import StrEnum


class Change(StrEnum):
    """What it takes to change a field of a sandbox that is there. The disk is kept by all but REPLACE."""

    RECORD = "record"  # it is written down: no machine needs to know
    LIVE = "live"  # its machine is told; it runs, or sleeps, on
    RESTART = "restart"  # it must be stopped, and its next start goes by it
    REPLACE = "replace"  # it must be deleted and made anew


CHANGES: dict[str, Change] = {
    "name": Change.LIVE,
    "hostname": Change.RESTART,
    "image": Change.REPLACE,
    "cpu": Change.LIVE,
    "memory": Change.LIVE,
    "disk": Change.LIVE,
    "pids": Change.LIVE,
    "command": Change.RESTART,
    "restart": Change.RECORD,
    "health": Change.LIVE,
    "env": Change.RESTART,
    "labels": Change.RECORD,
    "workdir": Change.RESTART,
    "user": Change.RESTART,
    "mounts": Change.RESTART,
    "secrets": Change.RESTART,
    "network": Change.RESTART,  # `enabled`, that is: see `changes`
    "bandwidth": Change.LIVE,
    "ports": Change.LIVE,
    "networks": Change.LIVE,
    "protected": Change.RECORD,
    "self_checkpoint": Change.RESTART,
    "self_lease": Change.RESTART,
    "checkpoints": Change.RECORD,
    "idle": Change.LIVE,
    "cold_after": Change.LIVE,
    "idle_cpu": Change.LIVE,
    "public": Change.RECORD,
    "squeeze": Change.LIVE,
    "services": Change.LIVE,
    "gpu": Change.RESTART,
    "gpu_kind": Change.RESTART,
    "gpu_memory": Change.RESTART,
    "extras": Change.RESTART,
    "queue": Change.RECORD,
    "tier": Change.RECORD,
    "priority": Change.RECORD,
    "placement": Change.RECORD,
}
"""Of every field of SandboxSpec."""

CLEARABLE = frozenset(
    {"gpu_memory", "hostname", "health", "command", "workdir", "user", "idle", "cold_after", "idle_cpu"}
)
"""Fields of the update in which null is a value. In the others it is the same as not given."""
