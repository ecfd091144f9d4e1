"""pending -> running -> how it ended: make the sandboxes of a job's tasks, follow them, and draw the sum.

Each task is looked at by itself and written in one transaction with what follows for its sandboxes; a step that was cut
off anywhere is simply done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import ClassVar

from skerry.clock import Clock
from skerry.control.intents import jobs
from skerry.control.reconcile.jobs import members
from skerry.control.reconcile.jobs.fill import FillJob
from skerry.control.reconcile.jobs.news import JobNews
from skerry.control.reconcile.jobs.settle import Settled, settle
from skerry.control.wakeups import Wakeup
from skerry.model.job import JOB_FINAL, TASK_MOVES, Job, JobState, TaskState, When
from skerry.store.store import Store
from skerry.store.tasks import Key, Row
from skerry.store.transaction import Transaction

_J, _T = JobState, TaskState
LOOK_AT_ALL_S = 20.0
"""How often everything that goes on is looked at, whatever this process was told."""
BATCH = 32
"""Tasks of one transaction: a person's request waits no longer than for these."""
DUE_MAX = 1000
SLACK_S = 0.01


class Overtaken(Exception):
    """A sandbox has just changed: nothing of this is written, and all of it is looked at again."""


class Seldom:
    """When everything is looked at: at first, after a step that failed, and every so often."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._looked_s: float | None = None

    @contextmanager
    def look(self, *, told: bool) -> Generator[bool]:
        """`told`: whether this step knows what to look at. What other control programs write nobody tells here."""
        now_s = self._clock.monotonic_s()
        looked_s, self._looked_s = self._looked_s, None  # a step that fails has lost what it was told
        untold = not told and self._store.has_other_writers
        look_at_all = untold or looked_s is None or now_s - looked_s > LOOK_AT_ALL_S
        yield look_at_all
        self._looked_s = now_s if look_at_all else looked_s


class AdvanceTasks:
    """Follows single tasks, and tells of those that have moved."""

    moves: ClassVar = frozenset(TASK_MOVES)

    def __init__(self, store: Store, clock: Clock, news: JobNews, fill: FillJob, wakeup: Wakeup) -> None:
        self._store = store
        self._news = news
        self._fill = fill
        self._wakeup = wakeup
        self._seldom = Seldom(store, clock)
        self._timer: asyncio.TimerHandle | None = None

    async def step(self) -> None:
        keys = self._news.take_tasks()
        async with self._store.read() as tx:
            keys.update(await tx.tasks.due(DUE_MAX))
        with self._seldom.look(told=bool(keys)) as look_at_all:
            if look_at_all:
                async with self._store.read() as tx:
                    keys.update(await tx.tasks.going_on())
            ordered = sorted(keys)
            for first in range(0, len(ordered), BATCH):
                await self._settle(ordered[first : first + BATCH])
        await self._set_timer()

    async def _settle(self, keys: Sequence[Key]) -> None:
        async with self._store.read() as tx:  # most often nothing is to be written
            found = await self._decide(tx, keys)
        if not any(settled.told or settled.stop or settled.delete for _, _, settled in found):
            found = [each for each in found if each[1].due_at != each[2].due_at]
        if not found:
            return
        try:
            async with self._store.write() as tx:
                for job, row, settled in await self._decide(tx, keys):
                    await self._apply(tx, job, row, settled)
        except Overtaken:
            self._news.again(keys)
            self._wakeup.set()

    async def _decide(self, tx: Transaction, keys: Sequence[Key]) -> list[tuple[Job, Row, Settled]]:
        rows = await tx.tasks.with_keys(keys)
        known = {job.id: job for job in await tx.jobs.with_ids(sorted({row.task.job for row in rows}))}
        ids = [member.sandbox for row in rows for member in row.task.members if member.sandbox is not None]
        boxes = {box.id: box for box in await tx.sandboxes.with_ids(ids)}
        found: list[tuple[Job, Row, Settled]] = []
        limits: dict[str, float | None] = {}
        for row in rows:
            job = known[row.task.job]
            mine = {member.sandbox: boxes[member.sandbox] for member in row.task.members if member.sandbox in boxes}
            cancel = (job.reason or "it was cancelled") if job.state is _J.CANCELLING else row.cancel
            if job.id not in limits:
                limits[job.id] = await self._fill.limit_s(tx, job)
            limit_s = limits[job.id]
            found.append((job, row, settle(row.task, job.spec, mine, tx.now, cancel=cancel, limit_s=limit_s)))
        return found

    async def _apply(self, tx: Transaction, job: Job, row: Row, settled: Settled) -> None:
        if settled.task == row.task and settled.due_at == row.due_at and not settled.stop and not settled.delete:
            return
        if (settled.task, settled.due_at) != (row.task, row.due_at):
            written = Row(settled.task, row.position, row.cancel, settled.due_at)
            if not await tx.tasks.write(row.task, written):
                return
        for box in settled.stop:
            if not await members.stop(tx, box, job.spec.grace_s):
                raise Overtaken
        for box in settled.delete:
            if not await members.delete(tx, box):
                raise Overtaken
        for told in settled.told:
            message = f"task {row.task.index}" + (f": {told.message}" if told.message else "")
            await tx.events.add([("job", job.id, job.name, f"task-{told.state.value}", message)])
            if told.state is _T.RUNNING and (fresh := await tx.jobs.get(job.id)) and fresh.state is _J.PENDING:
                running = await tx.jobs.move(fresh, _J.RUNNING, "running", changes={"started_at": tx.now})
                if running is not None:
                    await tx.notices.add(running, When.STARTED)
            if told.state is _T.BACKING_OFF or told.evicted:
                await tx.notices.add(job, When.PREEMPTED if told.evicted else When.RETRYING, settled.task)

    async def _set_timer(self) -> None:
        async with self._store.read() as tx:
            due_s = await tx.tasks.next_due_s()
            now_s = tx.now.timestamp()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            after_s = max(0.0, due_s - now_s) + SLACK_S
            self._timer = asyncio.get_running_loop().call_later(after_s, self._wakeup.set)


class AdvanceJobs:
    moves: ClassVar = frozenset(
        {
            (_J.PENDING, _J.RUNNING),
            (_J.PENDING, _J.FAILED),
            (_J.RUNNING, _J.SUCCEEDED),
            (_J.RUNNING, _J.FAILED),
            (_J.CANCELLING, _J.CANCELLED),
            (_J.CANCELLING, _J.FAILED),
        }
    )

    def __init__(self, store: Store, clock: Clock, news: JobNews, fill: FillJob, tasks: Wakeup) -> None:
        """`tasks`: wakes who follows them."""
        self._store = store
        self._news = news
        self._fill = fill
        self._tasks = tasks
        self._seldom = Seldom(store, clock)
        self._short: set[str] = set()
        """Jobs that have tasks which no place was left for: whoever frees one may free it for them."""

    async def step(self) -> None:
        ids = self._news.take_jobs()
        with self._seldom.look(told=bool(ids)) as look_at_all:
            if look_at_all:
                async with self._store.read() as tx:
                    ids.update(await tx.jobs.going_on())
            await self._look_at(ids | (self._short if ids else set()))

    async def _look_at(self, ids: Iterable[str]) -> None:
        async with self._store.read() as tx:
            found = await tx.jobs.with_ids(sorted(ids))
        self._short -= {job.id for job in found}
        # Of several that want a place, the one that is worth most, then the one that came first.
        for job in sorted(found, key=lambda job: (-job.spec.tier.rank, -job.spec.priority, job.created_at)):
            match job.state:
                case _J.PENDING | _J.RUNNING:
                    if await self._fill.fill(job):
                        self._short.add(job.id)
                    await self._finish(job)
                case _J.CANCELLING:
                    async with self._store.read() as tx:
                        self._news.again(await tx.tasks.going_on(job.id))
                    self._tasks.set()
                    await self._finish(job)
                case state if state in JOB_FINAL:
                    await self._fill.take_down(job)
                case _:
                    pass

    async def _finish(self, job: Job) -> None:
        async with self._store.read() as tx:
            if not await self._is_over(tx, job):
                return
        async with self._store.write() as tx:
            fresh = await tx.jobs.get(job.id)
            if fresh is None or fresh.state in JOB_FINAL or not await self._is_over(tx, fresh):
                return
            failed = await tx.tasks.has_any(job.id, _T.FAILED)
            if fresh.state is not _J.CANCELLING and failed and fresh.spec.fail_fast:
                await jobs.cancel(tx, fresh, reason="a task of it failed", outcome=_J.FAILED)
            elif fresh.state is _J.CANCELLING:
                await self._end(tx, fresh, fresh.outcome or _J.CANCELLED, fresh.reason)
            elif not failed and await tx.tasks.has_any(job.id, _T.CANCELLED):
                cancelled = await jobs.cancel(tx, fresh, reason="tasks of it were cancelled")
                await self._end(tx, cancelled, _J.CANCELLED, cancelled.reason)
            else:
                await self._end(tx, fresh, _J.FAILED if failed else _J.SUCCEEDED, None)

    async def _is_over(self, tx: Transaction, job: Job) -> bool:
        """Whether something is to be written about it as a whole."""
        if job.spec.fail_fast and job.state is not _J.CANCELLING and await tx.tasks.has_any(job.id, _T.FAILED):
            return True
        if (await tx.tasks.counts(job.id)).going_on:
            return False
        return job.state is _J.CANCELLING or await tx.jobs.tasks_made(job.id) == job.spec.task_count

    async def _end(self, tx: Transaction, job: Job, to: JobState, reason: str | None) -> None:
        ended = job.model_copy(update={"state": to, "progress": None})
        progress = (await tx.tasks.progress([ended]))[job.id]
        if to is _J.FAILED and reason is None:
            reason = f"{progress.failed} of {progress.total} tasks failed" if progress.total > 1 else "its task failed"
        changes = {"ended_at": tx.now, "reason": reason, "progress": progress}
        written = await tx.jobs.move(job, to, to.value, message=reason or "", changes=changes)
        if written is not None:
            await tx.notices.add(written, When(to.value))
