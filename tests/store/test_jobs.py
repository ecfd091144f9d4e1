"""Jobs and tasks in the database: counted exactly though most tasks have no row, paged in order, guarded."""

from __future__ import annotations

import os
from typing import Any

import pytest

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import make_id
from skerry.model.job import Job, JobSpec, JobState, Task, TaskState
from skerry.store.store import Store
from skerry.store.tasks import Row
from skerry.store.transaction import PROJECT

pytestmark = pytest.mark.anyio


async def add_job(store: Store, name: str, state: JobState = JobState.PENDING, **spec: Any) -> Job:
    async with store.write() as tx:
        job = Job(
            id=make_id("job", os.urandom(6)),
            project=PROJECT,
            name=name,
            state=state,
            spec=JobSpec(name=name, image="debian:12", command=["true"], **spec),
            created_at=tx.now,
            updated_at=tx.now,
        )
        await tx.jobs.insert([job], [])
    return job


async def add_task(store: Store, job: Job, position: int, state: TaskState) -> Task:
    async with store.write() as tx:
        index = job.spec.indices[position]
        task = tx.tasks.never_made(job, index).model_copy(update={"state": state})
        await tx.tasks.insert([Row(task, position)])
    return task


async def test_a_name_is_free_again_at_the_end(store: Store) -> None:
    first = await add_job(store, "train")
    with pytest.raises(AlreadyExists):
        await add_job(store, "train")
    async with store.write() as tx:
        running = await tx.jobs.move(first, JobState.RUNNING, "running")
        assert running is not None
        assert await tx.jobs.move(first, JobState.FAILED, "failed") is None, "it is no longer pending"
        assert await tx.jobs.move(running, JobState.FAILED, "failed") is not None
    second = await add_job(store, "train")
    async with store.read() as tx:
        assert (await tx.jobs.find("train", PROJECT)).id == second.id
        assert (await tx.jobs.find(first.id, PROJECT)).state is JobState.FAILED


async def test_progress_counts_tasks_that_have_no_row(store: Store) -> None:
    job = await add_job(store, "many", array=100_000)
    for position, state in enumerate([TaskState.SUCCEEDED, TaskState.RUNNING, TaskState.BACKING_OFF]):
        await add_task(store, job, position, state)
    async with store.write() as tx:
        assert await tx.jobs.set_tasks_made(job.id, 0, 3)
        assert not await tx.jobs.set_tasks_made(job.id, 0, 3)
        progress = (await tx.tasks.progress([job]))[job.id]
        assert (progress.total, progress.succeeded, progress.running, progress.pending) == (100_000, 1, 1, 99_998)
        ended = job.model_copy(update={"state": JobState.CANCELLED})
        assert (await tx.tasks.progress([ended]))[job.id].cancelled == 99_997
        counts = await tx.tasks.counts(job.id)
        assert (counts.active, counts.resting, counts.going_on) == (1, 1, 2)


async def test_pages_go_by_the_order_of_the_indices(store: Store) -> None:
    job = await add_job(store, "some", array="9,4,7,2,5")
    await add_task(store, job, 0, TaskState.RUNNING)
    async with store.write() as tx:
        await tx.jobs.set_tasks_made(job.id, 0, 1)
        await tx.tasks.cancel(job, {2: 3}, "not that one")
        page = await tx.tasks.list(job, limit=3)
        assert [(task.index, task.state.value) for task in page.items] == [
            (9, "running"),
            (4, "pending"),
            (7, "pending"),
        ]
        page = await tx.tasks.list(job, limit=3, page_token=page.next_page_token)
        assert ([task.index for task in page.items], page.next_page_token) == ([2, 5], None)
        seen: list[int] = []
        token = None
        while True:
            page = await tx.tasks.list(job, state=TaskState.PENDING, limit=1, page_token=token)
            seen += [task.index for task in page.items]
            token = page.next_page_token
            if token is None:
                break
        assert sorted(seen) == [2, 4, 5, 7]
        [row] = await tx.tasks.with_keys([(job.id, 2)])
        assert row.cancel == "not that one"
        assert await tx.tasks.due(10) == [(job.id, 2)]


async def test_of_two_writers_of_a_task_one_is_told(store: Store) -> None:
    job = await add_job(store, "one")
    task = await add_task(store, job, 0, TaskState.PENDING)
    async with store.write() as tx:
        running = task.model_copy(update={"state": TaskState.RUNNING})
        assert await tx.tasks.write(task, Row(running, 0))
        assert not await tx.tasks.write(task, Row(running, 0))


async def test_what_is_forgotten_is_found_no_more(store: Store) -> None:
    job = await add_job(store, "old", state=JobState.SUCCEEDED)
    await add_task(store, job, 0, TaskState.SUCCEEDED)
    async with store.write() as tx:
        assert [each[0] for each in await tx.jobs.ended()] == [job.id]
        await tx.jobs.forget([job.id])
        with pytest.raises(NotFound, match="was deleted"):
            await tx.jobs.find("old", PROJECT)
        assert (await tx.jobs.list(PROJECT, limit=10)).items == []
        assert await tx.jobs.forgotten(10) == [job.id]
        await tx.jobs.delete([job.id])
        assert await tx.tasks.with_keys([(job.id, 0)]) == []
