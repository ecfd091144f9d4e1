"""Use of one sandbox at one moment."""

from __future__ import annotations

from datetime import datetime

from skerry.model.fields import Frozen


class Stats(Frozen):
    at: datetime
    cpu_s: float
    """Seconds of processor time since the sandbox started."""
    memory_bytes: int
    memory_limit_bytes: int
    memory_peak_bytes: int
    oom_kills: int
    pids: int
    pids_limit: int
    disk_bytes: int
    """Written by this sandbox on top of its image, checkpoints of it included."""
    disk_limit_bytes: int
    network_received_bytes: int
    network_sent_bytes: int
    network_connections: int = 0
    """TCP connections that are open now."""


class WorkAsked(Frozen):
    sandboxes: list[str]
    """Ids."""


class Work(Frozen):
    """How busy one sandbox is, for an autoscaler that asks each second."""

    cpu_s: float
    """Seconds of processor time since it started."""
    gpu: float | None = None
    """Share of its accelerators' time in use, 0 to 1; of one that is shared, all of its use. None: not known."""


class Works(Frozen):
    """Of several sandboxes of one machine."""

    at: datetime
    of: dict[str, Work] = {}
    """By id. Those that are not there are left out."""
    gpu_unknown: str | None = None
    """Why nothing is known of accelerators, if that is so."""
