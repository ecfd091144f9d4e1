"""What becomes of a task, from what is known of its members. Pure: the same facts at the same time, the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from skerry.model.job import TASK_FINAL, TASK_MOVES, JobSpec, Member, Task, TaskState
from skerry.model.moves import move
from skerry.model.sandbox import ExitReason, S, Sandbox

TIMED_OUT = 124
"""The exit code of a task that ran out of time, as of timeout(1)."""

_T = TaskState
OVER = (S.STOPPED, S.FAILED, S.DELETING, S.DELETED)
"""A member in one of these has no processes, and gets none."""


@dataclass(frozen=True)
class Told:
    state: TaskState
    message: str = ""
    evicted: bool = False


@dataclass
class Settled:
    task: Task
    told: list[Told] = field(default_factory=list[Told])
    """The moves that it has made, in order."""
    stop: list[Sandbox] = field(default_factory=list[Sandbox])
    delete: list[Sandbox] = field(default_factory=list[Sandbox])
    due_at: datetime | None = None
    """When it is to be looked at again, whatever happens."""


@dataclass(frozen=True)
class End:
    """Why a task is not to go on."""

    outcome: TaskState
    reason: str
    code: int | None = None
    evicted: bool = False


def settle(
    task: Task,
    spec: JobSpec,
    boxes: Mapping[str, Sandbox],
    now: datetime,
    *,
    cancel: str | None = None,
    limit_s: float | None = None,
) -> Settled:
    """`boxes`: those of its members' sandboxes that there are, by id. `cancel`: why it is to end, if it is. `limit_s`:
    how long one try may take."""
    look = _Look(spec, boxes, now, cancel, limit_s)
    told: list[Told] = []
    while (step := look.next(task)) is not None:
        after, said = step
        move(TASK_MOVES, task.state, after.state)
        task = after
        told.append(said)
    return look.orders(Settled(task, told))


class _Look:
    def __init__(
        self, spec: JobSpec, boxes: Mapping[str, Sandbox], now: datetime, cancel: str | None, limit_s: float | None
    ) -> None:
        self._spec = spec
        self._boxes = boxes
        self._now = now
        self._cancel = cancel
        self._limit_s = limit_s

    def next(self, task: Task) -> tuple[Task, Told] | None:
        match task.state:
            case _T.PENDING:
                return self._pending(task)
            case _T.RUNNING:
                return self._stopping(task, end) if (end := self._end(task)) is not None else None
            case _T.STOPPING:
                return self._stopped(task)
            case _T.BACKING_OFF if self._cancel is not None:
                return self._to(task, _T.CANCELLED, self._cancel, reason=self._cancel, ended_at=self._now)
            case _T.BACKING_OFF if task.starts_at is None or task.starts_at <= self._now:
                return self._again(task, "")
            case _:
                return None

    def _pending(self, task: Task) -> tuple[Task, Told] | None:
        if not task.members:
            if self._cancel is None:
                return None
            return self._to(task, _T.CANCELLED, self._cancel, reason=self._cancel, ended_at=self._now)
        started = [box.started_at for box in self._members(task) if box is not None and box.started_at is not None]
        if len(started) >= (self._spec.nodes_min or self._spec.nodes):
            members = [
                member if box is None else member.model_copy(update={"node": box.node})
                for member, box in zip(task.members, self._members(task), strict=True)
            ]
            return self._to(task, _T.RUNNING, "", members=members, started_at=max(started), reason=None, exit_code=None)
        end = self._end(task)
        return None if end is None else self._stopping(task, end)

    def _end(self, task: Task) -> End | None:
        """None: it goes on."""
        if self._cancel is not None:
            return End(_T.CANCELLED, self._cancel)
        boxes = self._members(task)
        if (bad := self._first_bad(task)) is not None:
            over = bad.evicted and boxes[0] is not None and _ended_well(boxes[0])
            return End(_T.SUCCEEDED, "the first member has ended", 0) if over else bad
        ended = [box for box in boxes if box is not None and _ended_well(box)]
        if task.state is _T.RUNNING:
            begun = [box for box in boxes if box is not None and box.started_at is not None]
            if len(ended) == len(begun) >= 1:
                return End(_T.SUCCEEDED, "", 0)
            first = boxes[0]
            if first in ended and self._deadline_of_rest(first) <= self._now:
                return End(_T.SUCCEEDED, "the first member has ended", 0)
            if (ends_at := self._ends_at(task)) is not None and ends_at <= self._now:
                limit_s = min(each for each in (self._spec.timeout, self._limit_s) if each is not None)
                return self._failure(task, f"ran for longer than {limit_s:g} s", TIMED_OUT)
        return None

    def _first_bad(self, task: Task) -> End | None:
        """Of several members that have ended otherwise than well, the first by time decides."""
        found: list[tuple[datetime, End]] = []
        for member, box in zip(task.members, self._members(task), strict=True):
            who = f"member {member.rank}" if self._spec.nodes > 1 else "its sandbox"
            if box is None or box.state in (S.DELETING, S.DELETED):
                found.append((self._now, self._failure(task, f"{who} was deleted", None)))
            elif box.state is S.FAILED:
                found.append((self._now, self._failure(task, f"{who} could not be started: {box.reason}", None)))
            elif box.state is S.STOPPED and not _ended_well(box):
                found.append((box.exit.at if box.exit is not None else self._now, self._bad_end(task, box, who)))
            elif box.evicted is not None:
                found.append((self._now, End(_T.PENDING, f"its place was taken: {box.evicted}", evicted=True)))
        return min(found, key=lambda each: each[0])[1] if found else None

    def _bad_end(self, task: Task, box: Sandbox, who: str) -> End:
        reason, code = (box.exit.reason, box.exit.code) if box.exit is not None else (ExitReason.LOST, None)
        if reason is ExitReason.LOST:
            return End(_T.PENDING, f"the machine lost {who}")
        if box.evicted is not None and reason is not ExitReason.EXITED:
            return End(_T.PENDING, f"its place was taken: {box.evicted}", evicted=True)
        if reason is ExitReason.OOM:
            return self._failure(task, f"{who} used more memory than it may", code)
        if reason is ExitReason.STOPPED:
            return self._failure(task, f"{who} was stopped", code)
        shown = "a code that nobody saw" if code is None else f"code {code}"
        return self._failure(task, f"{who} ended with {shown}", code)

    def _failure(self, task: Task, reason: str, code: int | None) -> End:
        retry = self._spec.retry
        again = task.failures < retry.limit and (not retry.on or code in retry.on)
        return End(_T.BACKING_OFF if again else _T.FAILED, reason, code)

    def _stopping(self, task: Task, end: End) -> tuple[Task, Told]:
        after, told = self._to(
            task,
            _T.STOPPING,
            end.reason,
            outcome=end.outcome,
            reason=end.reason or None,
            exit_code=end.code,
            failures=task.failures + (end.outcome in (_T.BACKING_OFF, _T.FAILED)),
        )
        return after, Told(told.state, told.message, end.evicted)

    def _stopped(self, task: Task) -> tuple[Task, Told] | None:
        if any(box is not None and box.state not in OVER for box in self._members(task)):
            return None
        members = [_closed(member, box) for member, box in zip(task.members, self._members(task), strict=True)]
        task = task.model_copy(update={"members": members})
        reason = task.reason or ""
        match task.outcome:
            case _T.BACKING_OFF | _T.PENDING if self._cancel is not None:
                return self._to(task, _T.CANCELLED, self._cancel, reason=self._cancel, ended_at=self._now)
            case _T.PENDING if self._has_ended_well(task):
                # Whoever was to be stopped for it was quicker: there is nothing to do again.
                return self._to(task, _T.SUCCEEDED, "", reason=None, exit_code=0, ended_at=self._now)
            case _T.BACKING_OFF:
                retry = self._spec.retry
                wait_s = min(retry.backoff_s * 2.0 ** min(task.failures - 1, 64), retry.backoff_s_max)
                message = f"{reason}; it is tried again in {wait_s:g} s"
                return self._to(task, _T.BACKING_OFF, message, starts_at=self._now + timedelta(seconds=wait_s))
            case _T.PENDING:
                return self._again(task, reason)
            case outcome:
                assert outcome is not None, "set on the way to stopping"
                return self._to(task, outcome, reason, ended_at=self._now)

    def _has_ended_well(self, task: Task) -> bool:
        """All that has begun of it, and that is enough of it."""
        begun = [box for box in self._members(task) if box is not None and box.started_at is not None]
        return len(begun) >= (self._spec.nodes_min or self._spec.nodes) and all(map(_ended_well, begun))

    def _again(self, task: Task, message: str) -> tuple[Task, Told]:
        anew: dict[str, Any] = {"attempt": task.attempt + 1, "members": [], "outcome": None, "starts_at": None}
        return self._to(task, _T.PENDING, message, **anew, started_at=None)

    def _to(self, task: Task, state: TaskState, message: str, **changes: Any) -> tuple[Task, Told]:
        after = task.model_copy(update={"state": state, "updated_at": self._now, **changes})
        return after, Told(state, message)

    # What follows of it

    def orders(self, settled: Settled) -> Settled:
        """Who is to be stopped or deleted, and when it is looked at again."""
        task = settled.task
        living = [box for box in self._boxes.values() if box.state not in (S.DELETING, S.DELETED)]
        match task.state:
            case _T.STOPPING:
                settled.stop = [box for box in living if box.state not in (*OVER, S.STOPPING)]
            case _T.RUNNING:
                settled.due_at = self._ends_at(task)
                first = self._members(task)[0]
                if first is not None and _ended_well(first):
                    rest_at = self._deadline_of_rest(first)
                    settled.due_at = rest_at if settled.due_at is None else min(rest_at, settled.due_at)
            case _T.BACKING_OFF:
                settled.delete, settled.due_at = living, task.starts_at
            case state if state in TASK_FINAL:
                kept_until = (task.ended_at or self._now) + timedelta(seconds=self._spec.keep_s)
                if kept_until <= self._now or not living:
                    settled.delete = living
                else:
                    settled.due_at = kept_until
            case _:
                if not task.members:
                    settled.delete = living  # of the try before
        gone = {box.id for box in settled.delete}
        members = [
            member.model_copy(update={"sandbox": None}) if member.sandbox in gone else member for member in task.members
        ]
        if members != task.members:
            settled.task = task.model_copy(update={"members": members})
        return settled

    def _members(self, task: Task) -> Sequence[Sandbox | None]:
        """By their ranks."""
        return [self._boxes.get(member.sandbox or "") for member in task.members]

    def _deadline_of_rest(self, first: Sandbox | None) -> datetime:
        """Until when the others may go on once the first has ended well."""
        assert first is not None
        assert first.exit is not None
        return first.exit.at + timedelta(seconds=self._spec.grace_s)

    def _ends_at(self, task: Task) -> datetime | None:
        limits = [each for each in (self._spec.timeout, self._limit_s) if each is not None]
        if not limits or task.started_at is None:
            return None
        return task.started_at + timedelta(seconds=min(limits))


def _ended_well(box: Sandbox) -> bool:
    return (
        box.state is S.STOPPED and box.exit is not None and box.exit.reason is ExitReason.EXITED and box.exit.code == 0
    )


def _closed(member: Member, box: Sandbox | None) -> Member:
    if box is None:
        return member.model_copy(update={"ended": True})
    code = box.exit.code if box.exit is not None else None
    return member.model_copy(update={"ended": True, "exit_code": code, "node": box.node})
