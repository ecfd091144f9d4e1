"""An operation: one long piece of work that somebody asked for and can watch."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from skerry.model.fields import Frozen


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Operation(Frozen):
    id: str
    project: str
    kind: str
    """noun.verb, such as sandbox.restore."""
    target: str
    """Id of the object it works on."""
    state: OperationState
    progress: dict[str, Any] = {}
    """{"step": text, "done_bytes": int, "total_bytes": int | None} where there is something to measure."""
    error: str | None = None
    created_at: datetime
    finished_at: datetime | None = None
