"""Remove jobs that have ended: those that were deleted, the oldest, and with each what machines keep of it."""

from __future__ import annotations

from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.jobs import members
from skerry.model.job import JobState
from skerry.model.sandbox import S, Sandbox
from skerry.store.changes import Record
from skerry.store.store import Store
from skerry.store.transaction import Transaction

KEPT_S_MAX = 30 * 86_400.0
KEPT_MAX = 10_000
"""Jobs that have ended."""
KEPT_TASKS_MAX = 1_000_000
"""Rows of tasks of those."""
BATCH = 100


class ForgetJobs:
    moves: ClassVar[frozenset[tuple[JobState, JobState]]] = frozenset()
    """What it removes has made its last move."""

    def __init__(self, store: Store, agent: AgentClient) -> None:
        self._store = store
        self._agent = agent
        self._left: set[str] = set()
        """Jobs that are gone but for their sandboxes."""

    def waits_for(self, record: Record) -> bool:
        """Whether it is the end of a sandbox that a job cannot be forgotten before. Every other sandbox that a job ends
        with is none of its business: that would be a look at all jobs for each task."""
        return isinstance(record, Sandbox) and record.state is S.DELETED and record.job in self._left

    async def step(self) -> None:
        async with self._store.read() as tx:
            old = await self._too_old(tx)
            gone = await tx.jobs.forgotten(BATCH)
        if old:
            async with self._store.write() as tx:
                await tx.jobs.forget(old)
        self._left = {*gone, *old}
        for job_id in [*gone, *old]:
            if await self._is_clear(job_id):
                await self._agent.forget_logs(job_id)
                async with self._store.write() as tx:
                    await tx.jobs.delete([job_id])

    async def _too_old(self, tx: Transaction) -> list[str]:
        needed = {
            each.job for job in await tx.jobs.in_states([JobState.BLOCKED], KEPT_MAX) for each in job.spec.depends_on
        }
        found: list[str] = []
        tasks = 0
        for number, (job_id, ended_s, made) in enumerate(await tx.jobs.ended()):
            tasks += made
            too_many = number >= KEPT_MAX or tasks > KEPT_TASKS_MAX
            if (too_many or tx.now.timestamp() - ended_s > KEPT_S_MAX) and job_id not in needed:
                found.append(job_id)
        return found[-BATCH:]

    async def _is_clear(self, job_id: str) -> bool:
        """Whether none of its sandboxes is left. Those that were kept are not needed any more."""
        async with self._store.write() as tx:
            boxes = await tx.sandboxes.of_job(job_id, BATCH)
            for box in boxes:
                if box.state is not S.DELETING:
                    await members.delete(tx, box)
            job = await tx.jobs.get(job_id)
            return not boxes and (job is None or job.network is None)
