"""Give a job as many of its tasks as may run or wait at once; take its network down when its last sandbox is gone."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.control.reconcile.jobs.members import Impossible, Subnets, make
from skerry.errors import LimitReached
from skerry.model.job import TASK_MOVES, Job, JobState, Task, TaskState
from skerry.model.moves import move
from skerry.store.store import Store
from skerry.store.tasks import Row
from skerry.store.transaction import Transaction

MEMBERS_AT_ONCE = 64
"""Written down in one transaction, but for a gang of more."""


class FillJob:
    def __init__(self, store: Store, *, waiting_max: int, sandboxes_max: int, subnets: Subnets) -> None:
        """`waiting_max`: tasks of one job in the queue. `sandboxes_max`: of all jobs, on each machine."""
        self._store = store
        self._waiting_max = waiting_max
        self._sandboxes_max = sandboxes_max
        self._subnets = subnets

    async def limit_s(self, tx: Transaction, job: Job) -> float | None:
        """How long one try may take: what it asks for, else what its queue allows."""
        if job.spec.max_duration is not None:
            return job.spec.max_duration
        queue = await tx.queues.named(job.spec.queue)
        return None if queue is None else queue.spec.max_duration

    async def fill(self, job: Job) -> bool:
        """Whether it wants more than it was given for now."""
        while True:
            async with self._store.read() as tx:
                wanted, room = await self._room(tx, job)
            if min(wanted, room) <= 0:
                return wanted > 0
            try:
                async with self._store.write() as tx:
                    made = await self._give(tx, job.id)
            except LimitReached:
                return True  # addresses: those of who ends come back
            if not made:
                return False

    async def _give(self, tx: Transaction, job_id: str) -> int:
        job = await tx.jobs.get(job_id)
        if job is None or job.state not in (JobState.PENDING, JobState.RUNNING):
            return 0
        wanted, room = await self._room(tx, job)
        count = min(wanted, room, max(1, MEMBERS_AT_ONCE // job.spec.nodes))
        return await self._make(tx, job, count) if count > 0 else 0

    async def _room(self, tx: Transaction, job: Job) -> tuple[int, int]:
        """(tasks that could be made by the job's own limits, tasks that there is a place for)."""
        counts = await tx.tasks.counts(job.id)
        left = counts.unmade + job.spec.task_count - await tx.jobs.tasks_made(job.id)
        most = (job.spec.parallel or job.spec.task_count) - counts.active
        wanted = min(left, most, self._waiting_max - counts.waiting)
        if wanted <= 0:
            return 0, 0
        machines = max(1, await tx.nodes.count())
        free = self._sandboxes_max * machines - await tx.sandboxes.count_of_jobs()
        return wanted, free // job.spec.nodes

    async def _make(self, tx: Transaction, job: Job, count: int) -> int:
        """How many were looked at."""
        again = await tx.tasks.unmade(job.id, count)
        fresh, looked = await self._next(tx, job, count - len(again))
        rows = [*again, *fresh]
        limit_s = await self.limit_s(tx, job)
        try:
            made = await make(tx, job, [row.task for row in rows], self._subnets, limit_s)
        except Impossible:
            made = await self._one_by_one(tx, job, rows, limit_s)
        written = [Row(task, row.position, row.cancel) for task, row in zip(made, rows, strict=True)]
        for row, was in zip(written[: len(again)], again, strict=True):
            await tx.tasks.write(was.task, row)
        await tx.tasks.insert(written[len(again) :])
        return len(again) + looked

    async def _one_by_one(self, tx: Transaction, job: Job, rows: Sequence[Row], limit_s: float | None) -> list[Task]:
        """Among them is one that cannot be: it has failed, and the others are made all the same."""
        found: list[Task] = []
        for row in rows:
            try:
                found += await make(tx, job, [row.task], self._subnets, limit_s)
            except Impossible as error:
                failed = move(TASK_MOVES, row.task.state, TaskState.FAILED)
                told = {"state": failed, "reason": error.say, "ended_at": tx.now, "failures": row.task.failures + 1}
                found.append(row.task.model_copy(update=told))
                await tx.events.add([("job", job.id, job.name, "task-failed", f"task {row.task.index}: {error.say}")])
        return found

    async def _next(self, tx: Transaction, job: Job, count: int) -> tuple[list[Row], int]:
        """The next ones by the order of its indices, and how many were looked at: those that were cancelled before
        they had a row have one, and are left out."""
        if count <= 0:
            return [], 0
        begin = await tx.jobs.tasks_made(job.id)
        indices = job.spec.indices[begin : begin + count]
        there = {row.task.index for row in await tx.tasks.with_keys([(job.id, index) for index in indices])}
        rows = [
            Row(tx.tasks.never_made(job, index).model_copy(update={"created_at": tx.now, "updated_at": tx.now}), at)
            for at, index in enumerate(indices, begin)
            if index not in there
        ]
        if indices and not await tx.jobs.set_tasks_made(job.id, begin, begin + len(indices)):
            return [], 0
        return rows, len(indices)

    async def take_down(self, job: Job) -> None:
        """The network of a job that has ended, once nobody is left in it."""
        if job.network is None:
            return
        async with self._store.write() as tx:
            if await tx.sandboxes.has_any_of(job.id):
                return
            for network in await tx.networks.all():
                if network.name == job.network and network.project == job.project:
                    await tx.networks.delete(network)
            await tx.jobs.change(job, {"network": None})
