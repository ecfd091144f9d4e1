"""An event: one line of history. Nothing depends on having seen one."""

from __future__ import annotations

from datetime import datetime

from skerry.model.fields import Frozen


class Event(Frozen):
    sequence: int
    at: datetime
    project: str
    noun: str
    """sandbox, checkpoint, image, network, volume, secret, queue, job, node, key."""
    target: str
    name: str
    """The target's name at that time."""
    kind: str
    """What happened, such as created, running, stopped, oom, restored."""
    message: str = ""
