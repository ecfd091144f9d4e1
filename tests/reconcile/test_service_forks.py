"""Replicas that start from the disk of one that was ready: they do, only from a good one, and nothing of it stays."""

from __future__ import annotations

import pytest

from skerry.errors import NoRoom
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.guest_service import HealthState
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Health, Service, ServiceState
from tests.reconcile.conftest import Cloud
from tests.reconcile.test_services import Desk, revisions

pytestmark = pytest.mark.anyio

SOON = {"initial_delay": 0, "interval": 0.5, "max_retries": 1}


@pytest.fixture
async def desk(cloud: Cloud) -> Desk:
    await cloud.image()
    return Desk(cloud)


async def kept_of(desk: Desk, service: Service, revision: int) -> Checkpoint:
    async with desk.cloud.store.read() as tx:
        found = await tx.checkpoints.get(service.checkpoints[revision].checkpoint)
    assert found is not None
    return found


async def until_kept(desk: Desk, revision: int = 1) -> Checkpoint:
    service = await desk.until(lambda service: revision in service.checkpoints)
    made = await kept_of(desk, service, revision)
    return await desk.cloud.until_checkpoint(made, CheckpointState.READY)


async def grown_to(desk: Desk, count: int) -> list[Sandbox]:
    """The new ones are last."""
    await desk.scale(count)
    await desk.until(lambda service: service.ready == count)
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == count)
    return sorted(boxes, key=lambda box: box.replica.number if box.replica else 0)


async def test_the_next_start_from_the_disk_of_the_first_and_prepare_nothing(desk: Desk) -> None:
    await desk.create(fork=True, prepare=["install"])
    await desk.until_settled()
    kept = await until_kept(desk)
    [first] = await desk.boxes()
    assert (kept.sandbox, kept.origin, kept.comment) == (first.id, Origin.SERVICE, "of service web, revision 1")
    desk.cloud.box(first).disk.append("written since")
    assert desk.cloud.box(first).order.spec.command != ["serve"]
    first, second = await grown_to(desk, 2)
    assert (second.parent, second.source_checkpoint) == (first.id, kept.id)
    order = desk.cloud.box(second).order
    assert (order.spec.command, order.fork) == (["serve"], True)
    assert "written since" not in desk.cloud.box(second).disk
    await desk.cloud.delete(first)
    boxes = await desk.until_boxes(lambda boxes: [box.source_checkpoint for box in boxes] == [kept.id, kept.id])
    assert len(boxes) == 2, "the checkpoint is the service's: it outlives the replica it was taken of"
    await desk.until(lambda service: service.ready == 2)


async def test_each_revision_has_its_own_and_the_old_one_goes(desk: Desk) -> None:
    await desk.create(fork=True, replicas=2)
    await desk.until_settled()
    old = await until_kept(desk)
    await desk.update(env={"V": "2"})
    await desk.until(lambda service: service.operation is None)
    new = await until_kept(desk, 2)
    boxes = await desk.until_boxes(lambda boxes: revisions(boxes) == [2, 2])
    sources = [box.source_checkpoint for box in sorted(boxes, key=lambda box: box.replica.number if box.replica else 0)]
    assert sources == [None, new.id], "the second of a rollout starts from the first already"
    await desk.cloud.until_checkpoint(old, CheckpointState.DELETED)
    service = await desk.until(lambda service: _ids(service) == {2: new.id})
    await desk.delete()
    await desk.cloud.until_checkpoint(new, CheckpointState.DELETED)
    await _deleted(desk, service)
    assert not desk.cloud.agent.world.checkpoints


async def test_it_holds_at_once_and_ends_at_once(desk: Desk) -> None:
    await desk.create()
    await desk.until_settled()
    changed = await desk.update(fork=True)
    assert changed.revision == 1, "replicas do not differ by it"
    kept = await until_kept(desk)
    await desk.update(fork=False)
    await desk.cloud.until_checkpoint(kept, CheckpointState.DELETED)
    _, second = await grown_to(desk, 2)
    assert second.source_checkpoint is None


async def test_one_that_cannot_be_taken_is_tried_again_and_until_then_they_start_from_the_image(desk: Desk) -> None:
    desk.cloud.agent.refuse["checkpoint"] = NoRoom("the disk pool is full")
    await desk.create(fork=True, prepare=["install"])
    await desk.until_settled()
    service = await desk.until(lambda service: 1 in service.checkpoints and bool(service.checkpoints[1].retry_at))
    failed = await desk.cloud.until_checkpoint(await kept_of(desk, service, 1), CheckpointState.DELETED)
    assert failed.reason == "the disk pool is full"
    _, second = await grown_to(desk, 2)
    assert second.source_checkpoint is None
    assert second.spec.command != ["serve"]
    desk.cloud.agent.refuse.clear()
    service = await desk.until(lambda service: service.checkpoints[1].tries == 2)
    kept = await desk.cloud.until_checkpoint(await kept_of(desk, service, 1), CheckpointState.READY)
    third = (await grown_to(desk, 3))[-1]
    assert third.source_checkpoint == kept.id


async def test_of_those_that_start_together_one_prepares_and_the_others_are_its_forks(desk: Desk) -> None:
    await desk.create(fork=True, prepare=["install"], replicas=3)
    await desk.until_settled()
    boxes = await desk.boxes()
    kept = await kept_of(desk, await desk.get(), 1)
    sources = [box.source_checkpoint for box in sorted(boxes, key=lambda box: box.replica.number if box.replica else 0)]
    assert sources == [None, kept.id, kept.id]


async def test_nobody_waits_for_one_that_does_not_become_healthy(desk: Desk) -> None:
    desk.cloud.agent.begin_as = HealthState.STARTING
    await desk.create(fork=True, prepare=["install"], replicas=2, health=SOON)
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == 2)
    assert [box.source_checkpoint for box in boxes] == [None, None]


async def test_without_room_where_the_checkpoint_is_a_fork_starts_elsewhere_from_the_image(desk: Desk) -> None:
    await desk.create(fork=True, prepare=["install"])
    await desk.until_settled()
    await until_kept(desk)
    desk.cloud.agent.capacity["memory_bytes"] = 2**19  # with what may be promised, half of what a replica asks for
    async with desk.cloud.store.write() as tx:
        [node] = await tx.nodes.all()
        other = {"id": "nd-000000000002", "name": "other", "agent_socket": "other"}
        await tx.nodes.put(node.model_copy(update=other), None)
        await tx.nodes.put(node.model_copy(update={"memory_bytes": 2**19}), node)
    await desk.scale(2)
    boxes = await desk.until_boxes(lambda boxes: any(box.node == other["id"] for box in boxes))
    [second] = [box for box in boxes if box.node == other["id"]]
    assert (second.source_checkpoint, second.parent) == (None, None)
    assert second.spec.command != ["serve"]


async def test_one_that_cannot_start_on_it_is_made_from_the_image(desk: Desk) -> None:
    await desk.create(fork=True, health=SOON)
    await desk.until_settled()
    kept = await until_kept(desk)
    desk.cloud.agent.begin_as = HealthState.STARTING
    await desk.scale(2)
    await desk.until_boxes(lambda boxes: any(box.source_checkpoint for box in boxes))
    await desk.cloud.until_checkpoint(kept, CheckpointState.DELETED)
    desk.cloud.agent.begin_as = HealthState.HEALTHY
    boxes = await desk.until_boxes(lambda boxes: [box.state for box in boxes] == [S.RUNNING, S.RUNNING])
    assert [box.source_checkpoint for box in boxes] == [None, None]


async def test_a_checkpoint_that_its_machine_has_lost_is_given_up(desk: Desk) -> None:
    await desk.create(fork=True)
    await desk.until_settled()
    kept = await until_kept(desk)
    del desk.cloud.agent.world.checkpoints[kept.id]
    first, second = await grown_to(desk, 2)
    assert (first.source_checkpoint, second.source_checkpoint) == (None, None)
    await desk.until(lambda service: service.failures == 0 and service.status is Health.HEALTHY)
    await desk.cloud.until_checkpoint(kept, CheckpointState.DELETED)


async def test_it_stays_while_somebody_still_has_to_start_from_it(desk: Desk) -> None:
    service = await desk.create(fork=True)
    await desk.until_settled()
    kept = await until_kept(desk)
    [first] = await desk.boxes()
    desk.cloud.agent.slow_s["start"] = 1.0
    [own] = await desk.cloud.fork(first, 1, kept.id)
    await desk.delete()
    await desk.cloud.until_state(own, S.RUNNING)
    await _deleted(desk, service)
    await desk.cloud.until_checkpoint(kept, CheckpointState.DELETED)


async def test_while_its_machine_takes_nobody_they_start_from_the_image(desk: Desk) -> None:
    await desk.create(fork=True)
    await desk.until_settled()
    await until_kept(desk)
    async with desk.cloud.store.write() as tx:
        [node] = await tx.nodes.all()
        was = await tx.nodes.find(node.id)
        await tx.nodes.mark(was, was.marks.model_copy(update={"cordoned": True}), "cordoned")
    await desk.scale(2)
    boxes = await desk.until_boxes(lambda boxes: len(boxes) == 2)
    assert [box.source_checkpoint for box in boxes] == [None, None]


async def test_whenever_control_is_killed_one_is_taken_and_none_is_left(desk: Desk) -> None:
    desk.cloud.agent.slow_s["checkpoint"] = 0.2
    service = await desk.create(fork=True, replicas=2)
    for number in range(8):
        await desk.cloud.kill_control()
        await desk.cloud.start_control()
        if number == 3:
            await desk.until(lambda service: service.ready > 0)
            await desk.update(env={"V": "2"})
    await desk.until(lambda service: service.rollout is None and service.ready == 2)
    kept = await until_kept(desk, 2)
    await desk.until(lambda service: _ids(service) == {2: kept.id})
    await desk.cloud.until(lambda: _on_machine(desk), lambda there: there == {kept.id})
    await desk.delete()
    await _deleted(desk, service)
    await desk.cloud.until(lambda: _on_machine(desk), lambda there: not there)
    assert await desk.cloud.problems() == []


async def _on_machine(desk: Desk) -> set[str]:
    return set(desk.cloud.agent.world.checkpoints)


async def _deleted(desk: Desk, service: Service) -> None:
    async def state() -> ServiceState:
        async with desk.cloud.store.read() as tx:
            found = await tx.services.get(service.id)
        assert found is not None
        return found.state

    await desk.cloud.until(state, lambda state: state is ServiceState.DELETED)


def _ids(service: Service) -> dict[int, str]:
    return {revision: disk.checkpoint for revision, disk in service.checkpoints.items()}
