"""Two control programs on one PostgreSQL: both do everything, and it is done once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skerry.clock import SystemClock
from skerry.control.app import Control
from skerry.control.first_key import ensure_first_key
from skerry.control.intents import evictions
from skerry.model.checkpoint import CheckpointState
from skerry.model.job import JobState, TaskState
from skerry.model.replica import replica_id
from skerry.model.sandbox import CheckpointPolicy, S
from skerry.model.service import Health, Service
from skerry.model.traffic import ServiceTraffic, TrafficReport
from skerry.store.store import Store
from skerry.store.transaction import PROJECT
from skerry.telemetry import Log
from tests.reconcile.conftest import Cloud
from tests.reconcile.test_convergence import life
from tests.reconcile.test_jobs import Jobs
from tests.reconcile.test_services import Desk, revisions
from tests.store.postgres import cluster, create_database

pytestmark = pytest.mark.anyio


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
        boxes = [await cloud.create(f"box-{number}", checkpoints=CheckpointPolicy(every_s=1000)) for number in range(8)]
        for box in boxes:
            running = await cloud.until_state(box, S.RUNNING)
            async with cloud.store.write() as tx:
                await tx.sandboxes.change(running, {"started_at": tx.now - timedelta(seconds=2000)})

        async def made() -> list[str]:
            async with cloud.store.read() as tx:
                return sorted(each.sandbox for each in await tx.checkpoints.in_states(list(CheckpointState), 100))

        await cloud.until(made, lambda found: len(set(found)) == 8)
        await asyncio.sleep(0.2)
        assert await made() == sorted(box.id for box in boxes)


async def tell(control: Control, service: Service, gateway: str, **traffic: Any) -> None:
    told = ServiceTraffic(service=service.id, **traffic)
    await control.exchange.tell(TrafficReport(gateway=gateway, seconds=0.2, services=[told]))


async def scaled(cloud: Cloud, service: Service) -> list[str]:
    async with cloud.store.read() as tx:
        events = await tx.events.list(PROJECT, target=service.id, limit=500)
    return [each.message for each in events if each.kind == "scaled"]


async def test_two_programs_that_start_at_once_leave_one_file_with_the_key(server_url: str, tmp_path: Path) -> None:
    url = create_database(server_url, "keys")
    stores = [Store(url, SystemClock()) for _ in range(2)]
    for store in stores:
        await store.open()
    paths = [tmp_path / "one", tmp_path / "two"]
    await asyncio.gather(*(ensure_first_key(store, path) for store, path in zip(stores, paths, strict=True)))
    [path] = [each for each in paths if each.exists()]
    async with stores[0].read() as tx:
        assert await tx.keys.with_secret(path.read_text().strip()) is not None
    for store in stores:
        await store.close()


async def test_two_programs_make_and_replace_replicas_once(cloud: Cloud) -> None:
    await cloud.image()
    desk = Desk(cloud)
    async with Control(cloud.settings, Log("control", "error")):
        service = await desk.create(replicas=4)
        await desk.until_settled()
        boxes = await desk.boxes()
        assert [box.id for box in boxes] == [replica_id(service.id, number) for number in range(1, 5)]
        for box in boxes[:2]:
            await cloud.delete(box)
        fresh = [replica_id(service.id, number) for number in (3, 4, 5, 6)]
        await desk.until_boxes(lambda boxes: [box.id for box in boxes if box.state is S.RUNNING] == fresh)
        assert (await desk.get()).made == 6
        assert all(box.starts == 1 for box in cloud.agent.world.boxes.values())


async def test_a_rollout_goes_on_when_one_of_two_programs_is_killed_in_the_middle(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry.control.reconcilers.SOON_S", 0.2)  # how soon one sees what only the other was told
    await cloud.image()
    desk = Desk(cloud)
    async with Control(cloud.settings, Log("control", "error")):
        await desk.create(replicas=3)
        await desk.until_settled()
        fewest, most = 9, 0

        async def look() -> Service:
            nonlocal fewest, most
            fewest, most = min(fewest, len((await desk.route()).replicas)), max(most, len(await desk.boxes()))
            return await desk.get()

        await desk.update(env={"V": "2"})
        await cloud.until(look, lambda found: found.made > 3)
        await cloud.kill_control()
        await cloud.until(look, lambda found: found.made > 4)
        await cloud.start_control()
        await cloud.until(look, lambda found: found.rollout is None and found.status is Health.HEALTHY)
        boxes = await desk.until_boxes(lambda boxes: len(boxes) == 3)
        assert (revisions(boxes), fewest, (await desk.get()).made) == ([2, 2, 2], 3, 6)
        assert most <= 4, "three, and one that is surplus while replacing"
        assert await cloud.problems() == []


async def test_a_service_is_scaled_by_what_either_of_two_programs_is_told(cloud: Cloud) -> None:
    await cloud.image()
    desk = Desk(cloud)
    async with Control(cloud.settings, Log("control", "error")) as other:
        assert cloud.control is not None
        first = cloud.control
        service = await desk.create(scaling={"minimum": 0, "maximum": 3, "idle": 2, "down_after": 1})
        await desk.until_settled()
        [box] = await desk.boxes()
        for _ in range(16):  # seconds in which nobody tells the other one anything
            await tell(first, service, "g", in_flight=1, requests=1)
            await asyncio.sleep(0.2)
        assert await scaled(cloud, service) == [], "the one that hears nothing does not take it for idle"
        assert (other.traffic.gateways(), first.traffic.gateways()) == (1, 1)

        async def parked() -> list[S]:
            await tell(other, service, "h")
            await tell(first, service, "g")
            return [each.state for each in await desk.boxes()]

        await cloud.until(parked, lambda states: states == [S.STOPPED])
        await asyncio.gather(
            tell(first, service, "g", wanted=True, waiting=1), tell(other, service, "h", wanted=True, waiting=1)
        )

        async def awake() -> Service:
            await tell(other, service, "h", wanted=True, waiting=1)
            return await desk.get()

        await cloud.until(awake, lambda found: found.ready == 1)
        assert [each.id for each in await desk.boxes()] == [box.id]
        assert cloud.box(box).starts == 2
        assert [each.partition(":")[0] for each in await scaled(cloud, service)] == ["1 to 0", "0 to 1"], "each once"


async def test_what_two_programs_are_asked_of_a_service_at_once_holds_both(cloud: Cloud) -> None:
    await cloud.image()
    desk = Desk(cloud)
    await desk.create(replicas=1)
    await desk.until_settled()
    wishes: list[dict[str, Any]] = [{"labels": {"a": "b"}}, {"drain": 5}, {"replicas": 2}, {"public": True}]
    for each in await asyncio.gather(*(desk.update(**wish) for wish in wishes), return_exceptions=True):
        assert isinstance(each, Service), each
    spec = (await desk.get()).spec
    assert (spec.labels, spec.drain, spec.replicas, spec.public) == ({"a": "b"}, 5, 2, True)
    made = await asyncio.gather(*(desk.create(name=name, models=["m"]) for name in "xy"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in made) == ["AlreadyExists", "Service"], made
