"""A notice of something that has happened to a job, on its way to one of those that its spec names. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from skerry.model.fields import Frozen
from skerry.model.job import Job, Task, When

ENDS = (When.SUCCEEDED, When.FAILED, When.CANCELLED, When.FINISHED)

TOLD = {"id", "project", "owner", "name", "state", "reason", "progress", "created_at", "started_at", "ended_at"}
"""Fields of the job."""


class Notice(Frozen):
    id: str
    """The same at each try, so that who gets it twice can tell."""
    job: str
    name: str
    """Of the job."""
    number: int
    """Which of the job's `notify` it goes to."""
    when: When
    body: dict[str, Any]
    """What is sent, as JSON."""
    tries: int = 0
    due_at: datetime
    created_at: datetime


def wanted(job: Job, when: When) -> Iterator[int]:
    """Numbers of the notifications that are told of it."""
    for number, each in enumerate(job.spec.notify):
        if when in each.on or (when in ENDS and When.FINISHED in each.on):
            yield number


def body_of(job: Job, number: int, notice_id: str, when: When, at: datetime, task: Task | None) -> dict[str, Any]:
    if job.spec.notify[number].slack is not None:
        return {"text": _sentence(job, when, task)}
    told = job.model_dump(mode="json", include=TOLD)
    body: dict[str, Any] = {"id": notice_id, "event": when.value, "at": at.isoformat(), "job": told}
    if task is not None:
        body["task"] = task.model_dump(mode="json", include={"index", "attempt", "failures", "exit_code", "reason"})
    return body


def _sentence(job: Job, when: When, task: Task | None) -> str:
    if task is not None:
        doing = "is tried again" if when is When.RETRYING else "had to make room and starts anew"
        return f"Task {task.index} of job {job.name} {doing}: {task.reason or 'no reason is known'}"
    said = {When.STARTED: "has started", When.CANCELLED: "was cancelled", When.FINISHED: "was skipped"}
    sentence = f"Job {job.name} {said.get(when, when.value)}"
    if job.progress is not None and job.progress.total > 1:
        sentence += f", {job.progress.succeeded} of {job.progress.total} tasks succeeded"
    if job.started_at is not None and job.ended_at is not None:
        sentence += f", after {(job.ended_at - job.started_at).total_seconds():.0f} s"
    return sentence + (f": {job.reason}" if job.reason else "")


def signature(secret: bytes, body: bytes, at_s: int) -> str:
    """Of X-Skerry-Signature. The time is signed too, so that an old one cannot be sent again for new."""
    digest = hmac.new(secret, str(at_s).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"
