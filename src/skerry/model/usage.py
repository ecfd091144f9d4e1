"""What was used, in hours of what was held: the sum of the times for which sandboxes had their places."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from skerry.model.fields import Frozen


class By(StrEnum):
    PROJECT = "project"
    USER = "user"
    QUEUE = "queue"
    JOB = "job"


class Used(Frozen):
    name: str
    """Of the project, user or queue; of a job, its id. Empty: of sandboxes that belong to none."""
    core_hours: float
    gib_hours: float
    gpu_hours: float
    stays: int
    """Times that a sandbox had a place."""


class Usage(Frozen):
    by: By
    since: datetime
    until: datetime
    items: list[Used]
    """The largest first, by core hours."""
