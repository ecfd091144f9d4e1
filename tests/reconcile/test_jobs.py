"""Jobs with a fake agent: whatever happens to members and to control, a job comes to its end and leaves nothing."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from skerry.control.intents import jobs
from skerry.model.job import JOB_FINAL, CancelRequest, Job, JobSpec, JobState, Task, TaskState
from skerry.model.network import link_towards
from skerry.model.order import Presence
from skerry.model.sandbox import S, Sandbox
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud

pytestmark = pytest.mark.anyio


class Jobs:
    """What the tests ask of a cloud about its jobs."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    async def submit(self, **spec: Any) -> Job:
        async with self.cloud.store.write() as tx:
            wanted = JobSpec(**{"image": "debian:12", "command": ["work"], "memory": "16MiB", **spec})
            return await jobs.submit(tx, wanted, owner="tester", server=jobs.Server())

    async def cancel(self, job: Job, *indices: int) -> None:
        async with self.cloud.store.write() as tx:
            found = await tx.jobs.find(job.id, PROJECT)
            if indices:
                await jobs.cancel_tasks(tx, found, CancelRequest(indices=list(indices)))
            else:
                await jobs.cancel(tx, found, reason="enough")

    async def get(self, job: Job) -> Job:
        async with self.cloud.store.read() as tx:
            found = await tx.jobs.find(job.id, PROJECT)
            return found.model_copy(update={"progress": (await tx.tasks.progress([found]))[found.id]})

    async def task(self, job: Job, index: int = 0) -> Task:
        async with self.cloud.store.read() as tx:
            rows = await tx.tasks.with_keys([(job.id, index)])
            return rows[0].task if rows else tx.tasks.never_made(await tx.jobs.find(job.id, PROJECT), index)

    async def until_task(self, job: Job, state: TaskState, index: int = 0, attempt: int | None = None) -> Task:
        return await self.cloud.until(
            lambda: self.task(job, index),
            lambda task: task.state is state and (attempt is None or task.attempt == attempt),
        )

    async def until_end(self, job: Job) -> Job:
        return await self.cloud.until(lambda: self.get(job), lambda found: found.state in JOB_FINAL)

    async def boxes(self, job: Job, index: int = 0) -> list[Sandbox]:
        """Of its newest try, by their ranks."""
        task = await self.task(job, index)
        async with self.cloud.store.read() as tx:
            found = {
                box.rank: box
                for box in await tx.sandboxes.with_ids([each.sandbox for each in task.members if each.sandbox])
            }
        return [found[rank] for rank in sorted(found)]

    async def end(self, job: Job, code: int = 0, index: int = 0, rank: int = 0) -> None:
        """Of the program of a member that runs."""
        boxes = await self.boxes(job, index)
        self.cloud.agent.end(boxes[rank].id, code)

    async def until_clean(self, job: Job) -> None:
        """No sandbox of it is left, in the database or on the machine."""

        async def left() -> bool:
            async with self.cloud.store.read() as tx:
                return await tx.sandboxes.has_any_of(job.id)

        await self.cloud.until(left, lambda is_left: not is_left)
        here = [
            box for box in self.cloud.agent.world.boxes.values() if box.order.spec.env.get("SKERRY_JOB_ID") == job.id
        ]
        assert here == []


@pytest.fixture
async def work(cloud: Cloud) -> Jobs:
    await cloud.image()
    return Jobs(cloud)


async def test_one_task_runs_and_its_sandbox_goes(work: Jobs) -> None:
    job = await work.submit(name="hello", command="echo {job} {index}")
    task = await work.until_task(job, TaskState.RUNNING)
    [box] = await work.boxes(job)
    order = work.cloud.box(box).order
    assert order.spec.command == ["/bin/sh", "-c", "echo hello 0"]
    assert order.spec.hostname == "hello-0-0"
    env = order.spec.env
    assert (env["RANK"], env["WORLD_SIZE"], env["MASTER_ADDR"], env["SKERRY_JOB"]) == ("0", "1", "127.0.0.1", "hello")
    assert (await work.get(job)).state is JobState.RUNNING
    assert task.started_at is not None
    await work.end(job)
    ended = await work.until_end(job)
    assert ended.state is JobState.SUCCEEDED
    assert ended.progress is not None
    assert ended.progress.succeeded == ended.progress.total == 1
    assert (await work.task(job)).exit_code == 0
    await work.until_clean(job)


async def test_one_that_kept_its_sandbox_is_forgotten_as_soon_as_that_is_gone(work: Jobs) -> None:
    job = await work.submit(command="true", keep_s=3600)
    await work.until_task(job, TaskState.RUNNING)
    await work.end(job)
    ended = await work.until_end(job)
    [box] = await work.boxes(job)
    work.cloud.agent.slow_s["delete"] = 0.1
    async with work.cloud.store.write() as tx:
        await jobs.delete(tx, ended)

    async def row() -> Job | None:
        async with work.cloud.store.read() as tx:
            return await tx.jobs.get(job.id)

    await work.cloud.until(row, lambda found: found is None)
    assert box.id not in work.cloud.agent.world.boxes


async def test_a_failure_is_tried_again_by_its_code(work: Jobs) -> None:
    job = await work.submit(retry={"limit": 2, "on": [7], "backoff_s": 0.05})
    await work.until_task(job, TaskState.RUNNING)
    await work.end(job, 7)
    await work.until_task(job, TaskState.RUNNING, attempt=1)
    await work.end(job, 7)
    await work.until_task(job, TaskState.RUNNING, attempt=2)
    await work.end(job, 8)  # not one of those
    ended = await work.until_end(job)
    assert (ended.state, ended.reason) == (JobState.FAILED, "its task failed")
    task = await work.task(job)
    assert (task.exit_code, task.failures, task.attempt) == (8, 3, 2)
    assert task.reason == "its sandbox ended with code 8"
    await work.until_clean(job)


async def test_a_gang_starts_together_and_ends_with_its_first_failure(work: Jobs) -> None:
    job = await work.submit(name="gang", nodes=3, cpu=0.1)
    await work.until_task(job, TaskState.RUNNING)
    boxes = await work.boxes(job)
    peers = boxes[0].spec.env["SKERRY_PEERS"].split(",")
    assert peers == [box.memberships[0].address for box in boxes]
    assert [box.spec.env["RANK"] for box in boxes] == ["0", "1", "2"]
    assert {box.spec.env["MASTER_ADDR"] for box in boxes} == {peers[0]}
    [link] = {box.spec.env["NCCL_SOCKET_IFNAME"] for box in boxes}
    assert link == link_towards(boxes[0].memberships[0].subnet)
    assert {(box.gang_size, box.gang_min, box.gang) for box in boxes} == {(3, 3, boxes[0].gang)}
    work.cloud.agent.end(boxes[1].id, 0)
    await work.cloud.until_state(boxes[1], S.STOPPED)
    assert (await work.task(job)).state is TaskState.RUNNING, "one that is not the first may end well"
    work.cloud.agent.end(boxes[2].id, 3)
    ended = await work.until_end(job)
    task = await work.task(job)
    assert (ended.state, task.exit_code, task.reason) == (JobState.FAILED, 3, "member 2 ended with code 3")
    await work.until_clean(job)

    async def networks() -> list[str]:
        async with work.cloud.store.read() as tx:
            return [network.name for network in await tx.networks.all()]

    await work.cloud.until(networks, lambda names: names == [])


async def test_a_gangs_network_is_where_no_machine_has_a_route_to(work: Jobs) -> None:
    pool = work.cloud.settings.job_subnets
    half = next(ip_network(pool).subnets())
    async with work.cloud.store.write() as tx:
        [node] = await tx.nodes.all()
        await tx.nodes.put(node.model_copy(update={"ranges": [str(half)]}), node)
    job = await work.submit(nodes=2, cpu=0.1)
    await work.until_task(job, TaskState.RUNNING)
    for box in await work.boxes(job):
        assert ip_address(box.memberships[0].address) in ip_network(pool)
        assert ip_address(box.memberships[0].address) not in half
    async with work.cloud.store.write() as tx:
        [node] = await tx.nodes.all()
        await tx.nodes.put(node.model_copy(update={"ranges": ["10.0.0.0/8"]}), node)
    never = await work.until_end(await work.submit(nodes=2, cpu=0.1))
    assert never.state is JobState.FAILED
    assert "job_subnets" in ((await work.task(never)).reason or "")


async def test_the_first_member_leaves_the_others_a_moment(work: Jobs) -> None:
    job = await work.submit(nodes=2, cpu=0.1, grace_s=0.3)
    await work.until_task(job, TaskState.RUNNING)
    await work.end(job, 0, rank=0)
    ended = await work.until_end(job)
    assert ended.state is JobState.SUCCEEDED, "the second was stopped after the grace"
    await work.until_clean(job)


async def test_an_array_keeps_to_parallel_and_counts_exactly(work: Jobs) -> None:
    job = await work.submit(array="1-7:2", parallel=2, cpu=0.1)
    await work.until_task(job, TaskState.RUNNING, index=1)
    await work.until_task(job, TaskState.RUNNING, index=3)
    assert (await work.task(job, 5)).state is TaskState.PENDING
    progress = (await work.get(job)).progress
    assert progress is not None
    assert (progress.total, progress.running, progress.pending) == (4, 2, 2)
    for index in (1, 3, 5, 7):
        await work.until_task(job, TaskState.RUNNING, index=index)
        await work.end(job, 0, index=index)
    assert (await work.until_end(job)).state is JobState.SUCCEEDED


async def test_fail_fast_cancels_the_others(work: Jobs) -> None:
    job = await work.submit(array=5, parallel=2, cpu=0.1, fail_fast=True, grace_s=0)
    await work.until_task(job, TaskState.RUNNING, index=0)
    await work.until_task(job, TaskState.RUNNING, index=1)
    await work.end(job, 1, index=1)
    ended = await work.until_end(job)
    assert ended.state is JobState.FAILED
    assert ended.progress is not None
    assert (ended.progress.failed, ended.progress.cancelled) == (1, 4)
    await work.until_clean(job)


async def test_cancelled_whole_and_in_part(work: Jobs) -> None:
    part = await work.submit(array=4, parallel=1, cpu=0.1, grace_s=0)
    await work.until_task(part, TaskState.RUNNING, index=0)
    await work.cancel(part, 0, 2)
    await work.until_task(part, TaskState.CANCELLED, index=0)
    await work.until_task(part, TaskState.CANCELLED, index=2)
    for index in (1, 3):
        await work.until_task(part, TaskState.RUNNING, index=index)
        await work.end(part, 0, index=index)
    ended = await work.until_end(part)
    assert (ended.state, ended.reason) == (JobState.CANCELLED, "tasks of it were cancelled")
    whole = await work.submit(array=20_000, parallel=1, cpu=0.1, grace_s=0)
    await work.until_task(whole, TaskState.RUNNING, index=0)
    await work.cancel(whole)
    ended = await work.until_end(whole)
    assert ended.progress is not None
    assert (ended.state, ended.reason, ended.progress.cancelled) == (JobState.CANCELLED, "enough", 20_000)
    await work.until_clean(whole)


async def test_out_of_time_is_code_124(work: Jobs) -> None:
    job = await work.submit(timeout=1, grace_s=0)
    ended = await work.until_end(job)
    task = await work.task(job)
    assert (ended.state, task.exit_code, task.reason) == (JobState.FAILED, 124, "ran for longer than 1 s")


async def test_lost_and_evicted_are_not_failures(work: Jobs) -> None:
    job = await work.submit(nodes=2, cpu=0.1, grace_s=0)
    await work.until_task(job, TaskState.RUNNING)
    boxes = await work.boxes(job)
    work.cloud.agent.lose(boxes[1].id)
    await work.until_task(job, TaskState.RUNNING, attempt=1)
    boxes = await work.boxes(job)
    async with work.cloud.store.write() as tx:
        intent = {"generation": boxes[0].generation + 1, "stop_grace_s": 0.0, "evicted": "for production"}
        await tx.sandboxes.move(boxes[0], S.STOPPING, "evicted", changes=intent)
    task = await work.until_task(job, TaskState.RUNNING, attempt=2)
    assert task.failures == 0
    for rank in (0, 1):
        await work.end(job, 0, rank=rank)
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    await work.until_clean(job)


async def test_dependencies(work: Jobs) -> None:
    first = await work.submit(name="first")
    then = await work.submit(depends_on=[{"job": "first"}])
    mend = await work.submit(depends_on=[{"job": "first", "outcome": "failed"}])
    assert (await work.get(then)).state is JobState.BLOCKED
    await work.until_task(first, TaskState.RUNNING)
    await work.end(first, 0)
    await work.until_task(then, TaskState.RUNNING)
    skipped = await work.until_end(mend)
    assert skipped.state is JobState.SKIPPED
    assert skipped.reason == f"job {first.id} has succeeded, and it was to have failed"
    await work.end(then)
    await work.until_end(then)


async def test_control_killed_again_and_again(work: Jobs) -> None:
    job = await work.submit(array=6, nodes=2, parallel=3, cpu=0.05, retry={"limit": 3, "backoff_s": 0.01}, grace_s=0)
    for round_ in range(12):
        await work.cloud.kill_control()
        await work.cloud.start_control()
        for sandbox_id, box in list(work.cloud.agent.world.boxes.items()):
            if box.presence is Presence.RUNNING:
                work.cloud.agent.end(sandbox_id, 1 if round_ == 3 else 0)

    async def ended() -> Job:
        for sandbox_id, box in list(work.cloud.agent.world.boxes.items()):
            if box.presence is Presence.RUNNING:
                work.cloud.agent.end(sandbox_id, 0)
        return await work.get(job)

    found = await work.cloud.until(ended, lambda job: job.state in JOB_FINAL)
    assert found.state is JobState.SUCCEEDED
    await work.until_clean(job)
    starts = [call for call in work.cloud.agent.world.calls if call.startswith("start ")]
    assert len(set(starts)) >= 12
