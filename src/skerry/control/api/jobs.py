"""Routes of jobs: submit, list, get or wait for, cancel, delete; and their tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from skerry.client.shares import Shares
from skerry.control.api.answers import (
    CREATED,
    LIMIT,
    LabelsAsked,
    Limit,
    ListOf,
    PageToken,
    WaitS,
    labels_asked,
    one,
    page,
)
from skerry.control.api.caller import Caller
from skerry.control.intents import jobs
from skerry.control.intents.capacity import WhyNever
from skerry.control.waiting import Waiter
from skerry.errors import NotFound
from skerry.model.job import JOB_FINAL, CancelRequest, Job, JobSpec, JobState, Task, TaskState
from skerry.model.usage import By
from skerry.store.paging import Page
from skerry.store.store import Store
from skerry.store.transaction import PROJECT, Transaction


class JobRoutes:
    def __init__(
        self, store: Store, waiter: Waiter, *, why_never: WhyNever, shares: Shares, sandboxes_max: int
    ) -> None:
        self._store = store
        self._waiter = waiter
        self._why_never = why_never
        self._shares = shares
        self._sandboxes_max = sandboxes_max

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
        one_of = "/{ref}"
        router.add_api_route("", self.submit, methods=["POST"], status_code=CREATED, response_model=Job)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Job])
        router.add_api_route(one_of, self.get, methods=["GET"], response_model=Job)
        router.add_api_route(one_of, self.delete, methods=["DELETE"], response_model=Job)
        router.add_api_route(one_of + "/cancel", self.cancel, methods=["POST"], response_model=Job)
        router.add_api_route(one_of + "/tasks", self.tasks, methods=["GET"], response_model=ListOf[Task])
        router.add_api_route(one_of + "/tasks/{index}", self.task, methods=["GET"], response_model=Task)
        return router

    async def submit(self, spec: JobSpec, caller: Caller) -> Response:
        share = self._shares.folders() if spec.mounts else ()
        server = jobs.Server(share=share, why_never=self._why_never, sandboxes_max=self._sandboxes_max)
        async with self._store.write() as tx:
            made = await jobs.submit(tx, spec, owner=caller.name, server=server)
            seen = await _seen(tx, made)
        return one(seen, CREATED)

    async def list(
        self,
        state: JobState | None = None,
        queue: Annotated[str | None, Query(max_length=63)] = None,
        label: LabelsAsked = None,
        name: Annotated[str | None, Query(max_length=63, description="Beginning of the name")] = None,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            found = await tx.jobs.list(
                PROJECT,
                state=state,
                queue=queue,
                labels=labels_asked(label),
                name=name,
                limit=limit,
                page_token=page_token,
            )
            progress = await tx.tasks.progress(found.items)
        items = [job.model_copy(update={"progress": progress[job.id]}) for job in found.items]
        return page(Page(items, found.next_page_token))

    async def get(self, ref: str, wait_s: WaitS = 0.0) -> Response:
        """With `wait_s`, answered when it has ended, or when the time is over."""
        async with self._store.read() as tx:
            found = await _seen(tx, await tx.jobs.find(ref, PROJECT))
        if wait_s and found.state not in JOB_FINAL:
            found = await self._waiter.until(
                [found.id], lambda: self._read(found), lambda job: job.state in JOB_FINAL, wait_s
            )
        return one(found)

    async def cancel(self, ref: str, request: Annotated[CancelRequest | None, Body()] = None) -> Response:
        """All of it, or the tasks that are named. Those that have ended stay as they are."""
        asked = request or CancelRequest()
        async with self._store.write() as tx:
            job = await tx.jobs.find(ref, PROJECT)
            if asked.indices:
                changed = await jobs.cancel_tasks(tx, job, asked)
            else:
                changed = await jobs.cancel(tx, job, reason=asked.reason)
            seen = await _seen(tx, changed)
        return one(seen)

    async def delete(self, ref: str) -> Response:
        """Of one that has ended: with its tasks and their logs."""
        async with self._store.write() as tx:
            job = await tx.jobs.find(ref, PROJECT)
            seen = await _seen(tx, job)
            await jobs.delete(tx, job)
        return one(seen)

    async def tasks(
        self, ref: str, state: TaskState | None = None, limit: Limit = LIMIT, page_token: PageToken = None
    ) -> Response:
        """In the order of the job's indices."""
        async with self._store.read() as tx:
            job = await tx.jobs.find(ref, PROJECT)
            return page(await tx.tasks.list(job, state=state, limit=limit, page_token=page_token))

    async def task(self, ref: str, index: int) -> Response:
        async with self._store.read() as tx:
            return one(await find_task(tx, await tx.jobs.find(ref, PROJECT), index))

    async def _read(self, job: Job) -> Job:
        async with self._store.read() as tx:
            return await _seen(tx, await tx.jobs.find(job.id, PROJECT))


async def find_task(tx: Transaction, job: Job, index: int) -> Task:
    rows = await tx.tasks.with_keys([(job.id, index)])
    if rows:
        return rows[0].task
    if index not in job.spec.indices:
        raise NotFound(f"job {job.name} has no task {index}; it has {job.spec.task_count}")
    return tx.tasks.never_made(job, index)


async def _seen(tx: Transaction, job: Job) -> Job:
    used = await tx.stays.used(By.JOB, since=job.created_at, until=tx.now, job=job.id)
    progress = (await tx.tasks.progress([job]))[job.id]
    return job.model_copy(update={"progress": progress, "used": used[0] if used else None})
