"""Tasks of jobs in the database. A row is made when the task is first looked at: of a hundred thousand that wait, most
have none, and what is not there is pending, or cancelled when its job has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, ColumnElement, bindparam, func, literal_column, select, update

from skerry.model.job import JOB_FINAL, Job, Progress, Task, TaskState
from skerry.store.paging import Page, make_token, read_token
from skerry.store.statements import Statements
from skerry.store.tables import DUE, GOING_ON, tasks

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

_STATEMENTS = Statements(tasks, ("job", "number", "state", "attempt"))
_GOING_ON: ColumnElement[bool] = literal_column(GOING_ON, Boolean)
_DUE: ColumnElement[bool] = literal_column(DUE, Boolean)
_MADE: ColumnElement[bool] = literal_column("members > 0", Boolean)
"""Spelled out, so that PostgreSQL sees that it is the same where it is counted and where it is grouped by."""
_CANCEL = (
    update(tasks)
    .where(tasks.c.job == bindparam("of"), tasks.c.number == bindparam("which"), _GOING_ON)
    .values(cancel=bindparam("why"), due_at=bindparam("at"))
)

Key = tuple[str, int]
"""(id of the job, index)"""


@dataclass(frozen=True)
class Row:
    task: Task
    position: int
    cancel: str | None = None
    """Why it is to end; None: it is not."""
    due_at: datetime | None = None


@dataclass(frozen=True)
class Counts:
    """Of a job's tasks that are not final."""

    waiting: int = 0
    """Have sandboxes that have not all started."""
    unmade: int = 0
    """Are to be started and have no sandboxes: they are tried again."""
    active: int = 0
    """Run, wait in the queue or are being stopped."""
    resting: int = 0
    """Wait until they are tried again."""

    @property
    def going_on(self) -> int:
        return self.unmade + self.active + self.resting


class Tasks:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    # Reading

    async def with_keys(self, keys: Sequence[Key]) -> list[Row]:
        by_job: dict[str, list[int]] = {}
        for job, index in keys:
            by_job.setdefault(job, []).append(index)
        found: list[Row] = []
        for job, indices in by_job.items():
            found += await self._rows([tasks.c.job == job, tasks.c.number.in_(indices)])
        return found

    async def going_on(self, job: str | None = None) -> list[Key]:
        where = [_GOING_ON] if job is None else [_GOING_ON, tasks.c.job == job]
        rows = await self._transaction.connection.execute(select(tasks.c.job, tasks.c.number).where(*where))
        return [(row[0], row[1]) for row in rows.all()]

    async def due(self, limit: int) -> list[Key]:
        """Those whose time has come, the longest due first."""
        now_s = self._transaction.now.timestamp()
        rows = await self._transaction.connection.execute(
            select(tasks.c.job, tasks.c.number)
            .where(_DUE, tasks.c.due_at <= now_s)
            .order_by(tasks.c.due_at)
            .limit(limit)
        )
        return [(row[0], row[1]) for row in rows.all()]

    async def next_due_s(self) -> float | None:
        """When the next one is."""
        return await self._transaction.connection.scalar(select(func.min(tasks.c.due_at)).where(_DUE))

    async def unmade(self, job: str, limit: int) -> list[Row]:
        """Those that are tried again and have no sandboxes yet."""
        c = tasks.c
        where = [_GOING_ON, c.job == job, c.state == TaskState.PENDING.value, c.members == 0]
        return await self._rows(where, limit)

    async def counts(self, job: str) -> Counts:
        c = tasks.c
        rows = await self._transaction.connection.execute(
            select(c.state, _MADE, func.count()).where(_GOING_ON, c.job == job).group_by(c.state, _MADE)
        )
        waiting = unmade = active = resting = 0
        for state, made, count in rows.all():
            if state == TaskState.BACKING_OFF.value:
                resting += count
            elif state == TaskState.PENDING.value and not made:
                unmade += count
            else:
                active += count
                waiting += count if state == TaskState.PENDING.value else 0
        return Counts(waiting, unmade, active, resting)

    async def has_any(self, job: str, state: TaskState) -> bool:
        found = select(tasks.c.number).where(tasks.c.job == job, tasks.c.state == state.value).limit(1)
        return await self._transaction.connection.scalar(found) is not None

    async def progress(self, jobs: Sequence[Job]) -> dict[str, Progress]:
        """Of a job that has ended it was written down; of the others the rows are counted."""
        c = tasks.c
        counted: dict[str, dict[str, int]] = {job.id: {} for job in jobs if job.progress is None}
        rows = await self._transaction.connection.execute(
            select(c.job, c.state, func.count()).where(c.job.in_(counted)).group_by(c.job, c.state)
        )
        for job_id, state, count in rows.all():
            counted[job_id][state] = count
        return {job.id: job.progress or _progress(job, counted[job.id]) for job in jobs}

    async def list(
        self, job: Job, *, state: TaskState | None = None, limit: int, page_token: str | None = None
    ) -> Page[Task]:
        """In the order of the job's indices, those that have no row among them."""
        after = read_token(page_token)
        c = tasks.c
        if state is None:
            indices = job.spec.indices
            found = {row.task.index: row.task for row in await self._slice(job.id, after, limit)}
            chosen = enumerate(indices[after : after + limit], after)
            items = [found.get(index) or self.never_made(job, index) for _, index in chosen]
            more = after + limit < len(indices)
            return Page(items, make_token(after + limit) if more else None)
        where = [c.job == job.id, c.state == state.value, c.position >= after]
        if state is not self.never_made(job, 0).state:
            rows = await self._rows(where, limit + 1)
        else:
            made = await self._transaction.jobs.tasks_made(job.id)
            rows = await self._rows([*where, c.position < made], limit + 1)
            rows += await self._beyond(job, state, max(after, made), limit + 1 - len(rows))
        token = make_token(rows[limit].position) if len(rows) > limit else None
        return Page([row.task for row in rows[:limit]], token)

    async def _beyond(self, job: Job, state: TaskState, first: int, limit: int) -> list[Row]:
        """Of the tasks that nobody has looked at yet those in `state`, as if each had a row."""
        indices = job.spec.indices
        found: list[Row] = []
        while first < len(indices) and len(found) < limit:
            there = {row.position: row for row in await self._slice(job.id, first, limit)}
            for position in range(first, min(first + limit, len(indices))):
                row = there.get(position) or Row(self.never_made(job, indices[position]), position)
                if row.task.state is state:
                    found.append(row)
            first += limit
        return found[:limit]

    async def _slice(self, job_id: str, first: int, count: int) -> list[Row]:
        c = tasks.c
        return await self._rows([c.job == job_id, c.position >= first, c.position < first + count])

    def never_made(self, job: Job, index: int) -> Task:
        state = TaskState.CANCELLED if job.state in JOB_FINAL else TaskState.PENDING
        return Task(
            job=job.id,
            index=index,
            project=job.project,
            state=state,
            reason=job.reason if job.state in JOB_FINAL else None,
            ended_at=job.ended_at,
            created_at=job.created_at,
            updated_at=job.updated_at,
        )

    async def _rows(self, where: Sequence[ColumnElement[bool]], limit: int | None = None) -> list[Row]:
        c = tasks.c
        query = select(c.body, c.position, c.cancel, c.due_at).where(*where).order_by(c.position)
        rows = await self._transaction.connection.execute(query if limit is None else query.limit(limit))
        return [
            Row(
                Task.model_validate_json(row[0]),
                row[1],
                row[2],
                None if row[3] is None else datetime.fromtimestamp(row[3], self._transaction.now.tzinfo),
            )
            for row in rows.all()
        ]

    # Writing

    async def insert(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        await self._transaction.connection.execute(_STATEMENTS.insert, [_columns(row) for row in rows])
        self._transaction.written.extend(row.task for row in rows)

    async def write(self, was: Task, row: Row) -> bool:
        """False when it is no longer what the caller believes. What asks for its end is left as it is."""
        belief = {"was_job": was.job, "was_number": was.index, "was_state": was.state.value, "was_attempt": was.attempt}
        columns = _columns(row)
        del columns["cancel"]
        done = await self._transaction.connection.execute(_STATEMENTS.write, {**belief, **columns})
        if done.rowcount == 0:
            return False
        self._transaction.written.append(row.task)
        return True

    async def cancel(self, job: Job, positions: Mapping[int, int], reason: str) -> None:
        """Ask for the end of these: index -> position. Those that have no row get one, so that it is written down."""
        at_s = self._transaction.now.timestamp()
        indices = list(positions)
        c = tasks.c
        for first in range(0, len(indices), 500):
            chunk = indices[first : first + 500]
            given = [{"of": job.id, "which": index, "why": reason, "at": at_s} for index in chunk]
            await self._transaction.connection.execute(_CANCEL, given)
            rows = await self._transaction.connection.execute(
                select(c.number).where(c.job == job.id, c.number.in_(chunk))
            )
            there = set(rows.scalars())
            await self.insert(
                [
                    Row(self.never_made(job, index), positions[index], reason, self._transaction.now)
                    for index in chunk
                    if index not in there
                ]
            )


def _columns(row: Row) -> dict[str, Any]:
    task = row.task
    return {
        "job": task.job,
        "number": task.index,
        "position": row.position,
        "state": task.state.value,
        "attempt": task.attempt,
        "members": sum(1 for member in task.members if member.sandbox is not None),
        "due_at": None if row.due_at is None else row.due_at.timestamp(),
        "cancel": row.cancel,
        "body": task.model_dump_json(),
    }


def _progress(job: Job, counted: Mapping[str, int]) -> Progress:
    total = job.spec.task_count
    known = {state: counted.get(state.value, 0) for state in TaskState}
    unmade = total - sum(known.values())
    ended = job.state in JOB_FINAL
    return Progress(
        total=total,
        pending=known[TaskState.PENDING] + known[TaskState.BACKING_OFF] + (0 if ended else unmade),
        running=known[TaskState.RUNNING] + known[TaskState.STOPPING],
        succeeded=known[TaskState.SUCCEEDED],
        failed=known[TaskState.FAILED],
        cancelled=known[TaskState.CANCELLED] + (unmade if ended else 0),
    )
