"""One ledger: whatever befalls work that has a place, what is said of use is the sum of the places and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from skerry.control.intents import evictions, jobs, queues
from skerry.control.reconcile.sandboxes import place as placing
from skerry.control.reconcile.sandboxes.observe import decide
from skerry.errors import Failed, Invalid
from skerry.model.job import Job, JobState, TaskState
from skerry.model.node import NodeState
from skerry.model.order import Presence
from skerry.model.queue import QueueUpdate
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud
from tests.reconcile.fake_world import Fault
from tests.reconcile.test_jobs import Jobs

pytestmark = pytest.mark.anyio


async def test_a_place_that_was_lost_at_once_is_free_again(cloud: Cloud) -> None:
    """It was given and taken away between two looks of the scheduler."""
    await cloud.image()
    cloud.agent.refuse["start"] = Invalid("command: /nope cannot be started")
    for number in range(3):
        await cloud.until_state(await cloud.create(f"box-{number}", cpu=4), S.FAILED)
    assert await cloud.problems() == []
    del cloud.agent.refuse["start"]
    await cloud.until_state(await cloud.create("last", cpu=4), S.RUNNING)


async def test_a_plan_that_could_not_be_written_down_has_given_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cloud.image()
    left, why_there = 1, placing.why_there

    def fails_once(*given: object) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Failed("the database is away")
        return why_there(*given)  # pyright: ignore

    monkeypatch.setattr(placing, "why_there", fails_once)
    box = await cloud.create("one", cpu=4)
    await cloud.until_state(box, S.RUNNING)
    assert left < 0
    await cloud.delete(box)
    await cloud.until_state(box, S.DELETED)
    assert await cloud.problems() == []
    await cloud.until_state(await cloud.create("two", cpu=4), S.RUNNING)


# Jobs


@pytest.fixture
async def work(cloud: Cloud) -> AsyncIterator[Jobs]:
    """Afterwards nothing has drifted, and no command of a job has run twice in one sandbox."""
    await cloud.image()
    yield Jobs(cloud)
    assert await cloud.problems() == []
    twice = [box for box in cloud.agent.world.boxes.values() if box.starts > 1]
    assert [box.order.name for box in twice if "SKERRY_JOB" in box.order.spec.env] == []


async def gang(work: Jobs, **spec: Any) -> tuple[Job, list[Sandbox]]:
    job = await work.submit(nodes=3, cpu=0.1, grace_s=0, **spec)
    await work.until_task(job, TaskState.RUNNING)
    return job, await work.boxes(job)


async def end_all(work: Jobs, job: Job) -> None:
    for box in await work.boxes(job):
        if (there := work.cloud.agent.world.boxes.get(box.id)) and there.presence is Presence.RUNNING:
            work.cloud.agent.end(box.id, 0)
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    await work.until_clean(job)


async def node_has(work: Jobs, **facts: Any) -> None:
    async def read() -> dict[str, Any]:
        async with work.cloud.store.read() as tx:
            return (await tx.nodes.all())[0].model_dump(include=set(facts))

    await work.cloud.until(read, lambda found: found == facts)


async def test_a_rebooted_node_has_its_gang_begin_anew_once(work: Jobs) -> None:
    job, old = await gang(work)
    await work.cloud.agent.stop()
    await node_has(work, state=NodeState.UNREACHABLE)
    for box in old:
        work.cloud.box(box).presence = Presence.LOST
    await work.cloud.agent.start()
    task = await work.until_task(job, TaskState.RUNNING, attempt=1)
    assert task.failures == 0
    assert {box.id for box in await work.boxes(job)}.isdisjoint(box.id for box in old)
    await end_all(work, job)


async def test_a_node_that_comes_back_goes_on_with_what_it_ran(work: Jobs) -> None:
    job, old = await gang(work)
    await work.cloud.agent.stop()
    await node_has(work, state=NodeState.UNREACHABLE)
    await work.cloud.kill_control()
    await work.cloud.start_control()
    assert (await work.task(job)).state is TaskState.RUNNING, "unreachable is not failed"
    await work.cloud.agent.start()
    await node_has(work, state=NodeState.READY)
    assert [box.id for box in await work.boxes(job)] == [box.id for box in old]
    await end_all(work, job)
    assert (await work.task(job)).attempt == 0


async def test_a_gang_that_was_cancelled_while_its_node_was_away_is_stopped_there(work: Jobs) -> None:
    job, old = await gang(work)
    await work.cloud.agent.stop()
    await node_has(work, state=NodeState.UNREACHABLE)
    await work.cancel(job)
    await work.until_task(job, TaskState.STOPPING)
    await work.cloud.agent.start()
    assert (await work.until_end(job)).state is JobState.CANCELLED
    await work.until_clean(job)
    started = {call.split()[1] for call in work.cloud.agent.world.calls if call.startswith("start")}
    assert started == {box.id for box in old}


async def test_of_a_gang_that_lost_one_the_others_end_before_it_begins_anew(work: Jobs) -> None:
    job, old = await gang(work)
    work.cloud.agent.slow_s["stop"] = 0.05
    work.cloud.agent.lose(old[2].id)
    await work.until_task(job, TaskState.RUNNING, attempt=1)
    verbs = [call.split()[:2] for call in work.cloud.agent.world.calls if call.split()[0] in ("start", "stop")]
    stopped = max(at for at, (verb, _) in enumerate(verbs) if verb == "stop")
    assert [verb for verb, _ in verbs[stopped + 1 :]] == ["start"] * 3
    assert {box for verb, box in verbs if verb == "stop"} == {old[0].id, old[1].id}
    await end_all(work, job)


async def test_a_command_that_ended_before_its_order_was_answered_runs_once(work: Jobs) -> None:
    """The order is delivered twice, since the first answer was lost."""
    cloud, ended = work.cloud, set[str]()

    async def ends_at_once(request: web.Request, handler: Any) -> Any:
        target = request.match_info.get("id", "")
        answer = await handler(request)
        if request.method == "PUT" and target in cloud.agent.world.boxes and target not in ended:
            ended.add(target)
            cloud.agent.end(target, 0)
            request.transport.abort()  # pyright: ignore
        return answer

    cloud.agent.between = ends_at_once
    job = await work.submit()
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    [box] = ended
    assert [call for call in cloud.agent.world.calls if call == f"start {box}"] == [f"start {box}"] * 2
    await work.until_clean(job)


async def test_reports_come_twice_and_out_of_order(work: Jobs) -> None:
    job, boxes = await gang(work)
    agent = work.cloud.agent
    early = [agent.report(box.id) for box in boxes]
    for box in boxes:
        agent.end(box.id, 0)
    for _ in range(3):
        true = [agent.report(box.id) for box in boxes if box.id in agent.world.boxes]
        for report in (*true, *early, *true, *true):
            agent.tell(report)
        await asyncio.sleep(0.01)
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    await work.until_clean(job)
    assert (await work.task(job)).attempt == 0


async def test_a_new_agent_adopts_a_gang(work: Jobs) -> None:
    job, old = await gang(work)
    for _ in range(3):
        await work.cloud.agent.stop()
        await work.cloud.agent.start()
    await node_has(work, state=NodeState.READY)
    assert [box.id for box in await work.boxes(job)] == [box.id for box in old]
    await end_all(work, job)


# Those who have to make room


async def make_room(work: Jobs, box: Sandbox) -> bool:
    async with work.cloud.store.write() as tx:
        return await evictions.evict(tx, box.id, "others need it", grace_s=0, for_others=True)


async def test_a_job_that_ended_well_before_it_was_stopped_is_not_begun_anew(work: Jobs) -> None:
    """It was asked to make room; by the time the order comes its program has ended by itself."""
    job = await work.submit(grace_s=0)
    await work.until_task(job, TaskState.RUNNING)
    [box] = await work.boxes(job)
    there = work.cloud.box(box)
    there.presence, there.exit = Presence.STOPPED, Exit(reason=ExitReason.EXITED, code=0, at=datetime.now(UTC))
    assert await make_room(work, box)
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    task = await work.task(job)
    assert (task.attempt, task.exit_code) == (0, 0)
    await work.until_clean(job)


async def test_a_gang_whose_first_has_ended_well_is_not_begun_anew_for_the_others(work: Jobs) -> None:
    job, boxes = await gang(work)
    async with work.cloud.store.write() as tx:
        spec = job.spec.model_copy(update={"grace_s": 60.0})
        assert await tx.jobs.change(await tx.jobs.find(job.id, PROJECT), {"spec": spec})
    work.cloud.agent.end(boxes[0].id, 0)
    await work.cloud.until_state(boxes[0], S.STOPPED)
    assert await make_room(work, boxes[1])
    assert (await work.until_end(job)).state is JobState.SUCCEEDED
    await work.until_clean(job)


async def test_a_sandbox_that_ended_by_itself_does_not_come_back_for_having_made_room(work: Jobs) -> None:
    cloud = work.cloud
    box = await cloud.until_state(await cloud.create("one", command=["work"]), S.RUNNING)
    there = cloud.box(box)
    async with cloud.store.write() as tx:  # marked and ended before anybody looks
        await tx.sandboxes.change(box, {"evicted": "others need it"})
        there.presence, there.exit = Presence.STOPPED, Exit(reason=ExitReason.EXITED, code=0, at=datetime.now(UTC))
        decision = decide(box, cloud.agent.report(box.id), tx.now)
    assert decision is not None
    assert decision[3]["evicted"] is None


async def test_cancelled_and_evicted_at_once_it_is_cancelled(work: Jobs) -> None:
    job, boxes = await gang(work)
    work.cloud.agent.slow_s["stop"] = 0.05
    await make_room(work, boxes[1])
    await work.cancel(job)
    assert (await work.until_end(job)).state is JobState.CANCELLED
    await work.until_clean(job)


async def test_evicted_from_a_node_that_is_lost_it_begins_anew_once(work: Jobs) -> None:
    job, boxes = await gang(work)
    await work.cloud.agent.stop()
    assert await make_room(work, boxes[0])
    for box in boxes:
        work.cloud.box(box).presence = Presence.LOST
    await work.until_task(job, TaskState.STOPPING)
    await work.cloud.agent.start()
    task = await work.until_task(job, TaskState.RUNNING, attempt=1)
    assert task.failures == 0
    await end_all(work, job)


async def test_the_budget_of_evictions_outlives_control(work: Jobs) -> None:
    cloud = work.cloud
    cloud.agent.capacity["extras"] = {"seat": 2}  # of which no more is promised than there is
    await cloud.kill_control()
    await cloud.start_control()
    await node_has(work, extras={"seat": 2})
    async with cloud.store.write() as tx:
        rules = {"minimum_run_s": 0, "budget_per_hour": 1, "grace_s": 0}
        await queues.update(tx, await tx.queues.find("default"), QueueUpdate.model_validate({"preemption": rules}))
    small = [
        await cloud.until_state(await cloud.create(f"small-{number}", extras={"seat": 1}, tier="free"), S.RUNNING)
        for number in range(2)
    ]
    await cloud.until_state(await cloud.create("first", extras={"seat": 1}), S.RUNNING)
    await cloud.kill_control()
    await cloud.start_control()
    second = await cloud.create("second", extras={"seat": 1})
    await cloud.until(lambda: cloud.why(second), lambda found: found is not None and found.because == "fit")
    assert await cloud.problems() == []
    assert sorted([(await cloud.get(box)).state for box in small]) == [S.PENDING, S.RUNNING]


async def test_a_deleted_job_is_forgotten_with_all_that_is_kept_of_it(work: Jobs) -> None:
    job = await work.submit(array=3, keep_s=3600)
    for index in range(3):
        await work.until_task(job, TaskState.RUNNING, index=index)
        await work.end(job, 0, index=index)
    ended = await work.until_end(job)
    agent = work.cloud.agent
    assert len(agent.world.boxes) == 3, "kept for an hour"
    agent.faults["forget_logs"] = [Fault.BEFORE, Fault.AFTER]
    async with work.cloud.store.write() as tx:
        await jobs.delete(tx, ended)

    async def left() -> bool:
        assert work.cloud.control is not None
        work.cloud.control.wakeups.forget_jobs.set()
        async with work.cloud.store.read() as tx:
            return await tx.jobs.get(job.id) is not None or bool(await tx.tasks.with_keys([(job.id, 0)]))

    await work.cloud.until(left, lambda is_left: not is_left)
    assert (agent.world.boxes, agent.world.logs) == ({}, set())
