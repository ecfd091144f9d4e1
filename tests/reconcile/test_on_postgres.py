"""Two control programs on one PostgreSQL: both do everything, and it is done once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from skerry.control.app import Control
from skerry.model.checkpoint import CheckpointState
from skerry.model.sandbox import CheckpointPolicy, S
from skerry.telemetry import Log
from tests.reconcile.conftest import Cloud
from tests.reconcile.test_convergence import life
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
