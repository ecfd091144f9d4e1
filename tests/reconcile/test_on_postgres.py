"""Two control programs on one PostgreSQL: both do everything, and it is done once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skerry.control.app import Control
from skerry.control.intents import evictions
from skerry.model.checkpoint import CheckpointState
from skerry.model.job import JobState, TaskState
from skerry.model.sandbox import CheckpointPolicy, S
from skerry.telemetry import Log
from tests.reconcile.conftest import Cloud
from tests.reconcile.test_convergence import life
from tests.reconcile.test_jobs import Jobs
from tests.store.postgres import cluster, create_database

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture
async def cloud(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="skerry-e-") as folder:
        (Path(folder) / "run").mkdir()
        made = Cloud(Path(folder), create_database(server_url, f"cloud_{request.node.name.lower()}"))
        await made.open()
        yield made
        await made.close()


async def test_life(cloud: Cloud) -> None:
    await life(cloud)


async def test_two_programs_do_it_once(cloud: Cloud) -> None:
    async with Control(cloud.settings, Log("control", "error")):
        await life(cloud)
        boxes = [await cloud.create(f"box-{number}") for number in range(10)]
        for box in boxes:
            await cloud.until_state(box, S.RUNNING)
        assert all(box.starts == 1 for box in cloud.agent.world.boxes.values())


async def test_two_programs_and_a_gang_that_is_lost_and_evicted(cloud: Cloud) -> None:
    async with Control(cloud.settings, Log("control", "error")):
        await cloud.image()
        work = Jobs(cloud)
        job = await work.submit(nodes=3, cpu=0.1, grace_s=0)
        await work.until_task(job, TaskState.RUNNING)
        cloud.agent.lose((await work.boxes(job))[1].id)
        await work.until_task(job, TaskState.RUNNING, attempt=1)
        async with cloud.store.write() as tx:
            [box, *_] = await work.boxes(job)
            assert await evictions.evict(tx, box.id, "others need it", grace_s=0, for_others=True)
        await work.until_task(job, TaskState.RUNNING, attempt=2)
        for box in await work.boxes(job):
            cloud.agent.end(box.id, 0)
        assert (await work.until_end(job)).state is JobState.SUCCEEDED
        await work.until_clean(job)
        assert await cloud.problems() == []


async def test_two_programs_make_one_automatic_checkpoint(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.control.reconcilers.SCHEDULE_S", 0.005)
    await cloud.image()
    await cloud.kill_control()
    await cloud.start_control()  # with the short interval
    async with Control(cloud.settings, Log("control", "error")):
        boxes = [await cloud.create(f"box-{number}", checkpoints=CheckpointPolicy(every_s=10)) for number in range(8)]
        for box in boxes:
            running = await cloud.until_state(box, S.RUNNING)
            async with cloud.store.write() as tx:
                await tx.sandboxes.change(running, {"started_at": tx.now - timedelta(seconds=60)})

        async def made() -> list[str]:
            async with cloud.store.read() as tx:
                return sorted(each.sandbox for each in await tx.checkpoints.in_states(list(CheckpointState), 100))

        await cloud.until(made, lambda found: len(set(found)) == 8)
        await asyncio.sleep(0.2)
        assert await made() == sorted(box.id for box in boxes)
