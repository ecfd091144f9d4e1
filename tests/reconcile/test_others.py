"""What the reconcilers of checkpoints, images and nodes decide."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from skerry.control.intents import images as intents
from skerry.control.intents import volumes
from skerry.control.reconcile.checkpoints.automatic import expired, is_due
from skerry.control.reconcile.nodes.sweep import SweepNode
from skerry.errors import AlreadyExists, InUse, LimitReached
from skerry.model.checkpoint import NOT_CONTAINED, Checkpoint, CheckpointState, Origin
from skerry.model.image import ImageRequest, ImageState
from skerry.model.node import NodeState
from skerry.model.sandbox import CheckpointPolicy, S, Sandbox, SandboxSpec
from skerry.model.volume import VolumeState
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)


# Checkpoints


def a_sandbox(**policy: int) -> Sandbox:
    return Sandbox(
        id="sb-1",
        project=PROJECT,
        name="one",
        state=S.RUNNING,
        spec=SandboxSpec(image="debian:12", checkpoints=CheckpointPolicy(**policy)),
        generation=1,
        created_at=NOW - timedelta(seconds=1000),
        updated_at=NOW,
        started_at=NOW - timedelta(seconds=100),
    )


def an_automatic(age_s: float, state: CheckpointState = CheckpointState.READY) -> Checkpoint:
    return Checkpoint(
        id=f"cp-{age_s:012.0f}",
        project=PROJECT,
        sandbox="sb-1",
        number=1,
        state=state,
        origin=Origin.AUTO,
        comment="",
        spec=SandboxSpec(image="debian:12"),
        image_digest="sha256:1",
        node="node-1",
        created_at=NOW - timedelta(seconds=age_s),
    )


def test_automatic_checkpoint_is_due() -> None:
    assert not is_due(a_sandbox(), [], NOW)
    assert is_due(a_sandbox(every_s=100), [], NOW)
    assert not is_due(a_sandbox(every_s=101), [], NOW)
    assert is_due(a_sandbox(every_s=60), [an_automatic(70)], NOW)
    assert not is_due(a_sandbox(every_s=60), [an_automatic(70), an_automatic(50)], NOW)
    assert not is_due(a_sandbox(every_s=60), [an_automatic(70, CheckpointState.CREATING)], NOW)
    assert not is_due(a_sandbox(every_s=150), [an_automatic(900)], NOW)  # it has run for 100 s only


def test_automatic_checkpoints_expire() -> None:
    five = [an_automatic(age) for age in (50, 40, 30, 20, 10)]
    assert expired(a_sandbox(every_s=10, keep=3), five, NOW) == five[:2]
    assert expired(a_sandbox(every_s=10, keep=5), five, NOW) == []
    assert expired(a_sandbox(every_s=10, keep=5, max_age_s=25), five, NOW) == five[:3]
    assert expired(a_sandbox(every_s=10, keep=4, max_age_s=45), five, NOW) == five[:1]
    failed = [an_automatic(50, CheckpointState.FAILED), an_automatic(10, CheckpointState.FAILED)]
    assert expired(a_sandbox(every_s=10), failed, NOW) == failed[:1]


async def test_policy_makes_and_removes_but_not_those_made_by_hand(cloud: Cloud) -> None:
    await cloud.image()
    policy = CheckpointPolicy(every_s=10, keep=1)
    box = await cloud.until_state(await cloud.create("one", checkpoints=policy), S.RUNNING)
    by_hand = await cloud.until_checkpoint(await cloud.checkpoint(box), CheckpointState.READY)
    first = await cloud.until_checkpoint(await cloud.checkpoint(box, Origin.AUTO), CheckpointState.READY)
    second = await cloud.until_checkpoint(await cloud.checkpoint(box, Origin.AUTO), CheckpointState.READY)
    assert cloud.control is not None
    cloud.control.wakeups.schedule_checkpoints.set()
    await cloud.until_checkpoint(first, CheckpointState.DELETED)
    assert set(cloud.agent.world.checkpoints) == {by_hand.id, second.id}
    assert second.number == 3
    assert second.not_contained == NOT_CONTAINED


async def test_number_of_checkpoints_is_limited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.control.intents.checkpoints.CHECKPOINTS_PER_SANDBOX_MAX", 2)
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    for _ in range(2):
        await cloud.until_checkpoint(await cloud.checkpoint(box), CheckpointState.READY)
    with pytest.raises(LimitReached, match="2 checkpoints"):
        await cloud.checkpoint(box)


async def test_checkpoint_deleted_while_it_is_made_leaves_nothing(cloud: Cloud) -> None:
    from skerry.control.intents.checkpoints import request_deletion

    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.agent.slow_s["checkpoint"] = 0.4
    checkpoint = await cloud.checkpoint(box)
    await asyncio.sleep(0.1)
    async with cloud.store.write() as tx:
        await request_deletion(tx, checkpoint)
    await cloud.until_checkpoint(checkpoint, CheckpointState.DELETED)
    await asyncio.sleep(0.5)
    assert cloud.agent.world.checkpoints == {}


async def test_guest_checkpoints_itself_if_it_may(cloud: Cloud) -> None:
    await cloud.image()
    may = await cloud.until_state(await cloud.create("may", self_checkpoint=True), S.RUNNING)
    may_not = await cloud.until_state(await cloud.create("may-not"), S.RUNNING)
    cloud.agent.ask_for_checkpoint(may.id, "rq-1")
    cloud.agent.ask_for_checkpoint(may_not.id, "rq-2")
    await cloud.until(_answers(cloud), lambda found: len(found) == 2)
    answers = dict(cloud.agent.guest_answers)
    assert list(cloud.agent.world.checkpoints) == [answers["rq-1"]]
    assert answers["rq-2"] == "this sandbox may not checkpoint itself"
    async with cloud.store.read() as tx:
        made = await tx.checkpoints.find_of(may.id, "v1")
    assert (made.origin, made.comment, made.request_id) == (Origin.GUEST, "by myself", "rq-1")


def _answers(cloud: Cloud):  # type: ignore[no-untyped-def]
    async def read() -> list[tuple[str, str]]:
        return cloud.agent.guest_answers

    return read


# Images


async def test_image_in_use_stays_and_goes_with_its_last_user(cloud: Cloud) -> None:
    image = await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    with pytest.raises(InUse, match="is used by one"):
        async with cloud.store.write() as tx:
            await intents.request_deletion(tx, image)
    await cloud.delete(box)
    await cloud.until_state(box, S.DELETED)
    async with cloud.store.write() as tx:
        await intents.request_deletion(tx, await tx.images.find("debian:12", PROJECT))
    await cloud.until_image(image.id, ImageState.DELETED)
    assert cloud.agent.world.images == set()


async def test_two_names_of_one_digest_share_its_disk(cloud: Cloud) -> None:
    first = await cloud.image()
    async with cloud.store.write() as tx:
        request = ImageRequest(name="other", source="docker://registry/debian:12")
        second = await intents.request_image(tx, request)
    ready = await cloud.until_image(second.id, ImageState.READY)
    assert ready.digest == first.digest
    await cloud.until_state(await cloud.create("one"), S.RUNNING)
    async with cloud.store.write() as tx:
        await intents.request_deletion(tx, first)  # the other name keeps the disk
    await cloud.until_image(first.id, ImageState.DELETED)
    assert cloud.agent.world.images == {first.digest}


async def test_image_deleted_while_it_is_pulled(cloud: Cloud) -> None:
    cloud.agent.slow_s["docker://slow"] = 20
    async with cloud.store.write() as tx:
        image = await intents.request_image(tx, ImageRequest(name="slow", source="docker://slow"))
    await cloud.until(_calls(cloud), lambda calls: "image docker://slow" in calls)
    async with cloud.store.write() as tx:
        await intents.request_deletion(tx, image)
    await cloud.until_image(image.id, ImageState.DELETED)
    assert cloud.agent.world.images == set()


def _calls(cloud: Cloud):  # type: ignore[no-untyped-def]
    async def read() -> list[str]:
        return cloud.agent.world.calls

    return read


async def test_progress_is_told_while_pulling(cloud: Cloud) -> None:
    cloud.agent.slow_s["docker://slow"] = 1.5
    async with cloud.store.write() as tx:
        image = await intents.request_image(tx, ImageRequest(name="slow", source="docker://slow"))
        with pytest.raises(AlreadyExists):
            await intents.request_image(tx, ImageRequest(name="slow", source="docker://slow"))

    async def progress() -> dict[str, object]:
        async with cloud.store.read() as tx:
            return (await tx.operations.find(image.operation or "", PROJECT)).progress

    await cloud.until(progress, lambda found: found == {"step": "fetch", "done_bytes": 1, "total_bytes": 10})
    await cloud.until_image(image.id, ImageState.READY)


async def test_prune_takes_unused_and_failed_ones(cloud: Cloud) -> None:
    used = await cloud.image()
    unused = await cloud.image("old:1")
    await cloud.until_state(await cloud.create("one"), S.RUNNING)
    async with cloud.store.write() as tx:
        removed = await intents.prune(tx)
    assert [image.id for image in removed] == [unused.id]
    await cloud.until_image(unused.id, ImageState.DELETED)
    assert cloud.agent.world.images == {used.digest}


async def test_upload_without_receiver_fails(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.control.reconcile.images.create.UPLOAD_SILENCE_S_MAX", 0.2)
    async with cloud.store.write() as tx:
        image = await intents.request_upload(tx, "mine")
    await asyncio.sleep(0.3)
    assert cloud.control is not None
    cloud.control.wakeups.create_images.set()
    failed = await cloud.until_image(image.id, ImageState.FAILED)
    assert "interrupted" in (failed.reason or "")


# Nodes


async def test_node_is_seen_and_missed(cloud: Cloud) -> None:
    async def state() -> list[NodeState]:
        async with cloud.store.read() as tx:
            return [node.state for node in await tx.nodes.all()]

    await cloud.until(state, lambda found: found == [NodeState.READY])
    await cloud.agent.stop()
    await cloud.until(state, lambda found: found == [NodeState.UNREACHABLE])
    await cloud.agent.start()
    await cloud.until(state, lambda found: found == [NodeState.READY])
    async with cloud.store.read() as tx:
        (node,) = await tx.nodes.all()
    assert (node.cpu, node.disk_free_bytes) == (4.0, 10**11)


async def test_what_the_database_does_not_know_is_left_alone(cloud: Cloud) -> None:
    """A new or restored database must not empty the machine; a deleted record is the only warrant."""
    await cloud.image()
    kept = await cloud.until_state(await cloud.create("kept"), S.RUNNING)
    stranger = await cloud.until_state(await cloud.create("stranger"), S.RUNNING)
    ghost = await cloud.until_state(await cloud.create("ghost"), S.RUNNING)
    was = cloud.agent.world.boxes[ghost.id]
    await cloud.delete(ghost)
    await cloud.until_state(ghost, S.DELETED)
    cloud.agent.world.boxes[ghost.id] = was  # a machine restored from a backup
    cloud.agent.world.boxes["sb-000000000001"] = cloud.agent.world.boxes.pop(stranger.id)
    cloud.agent.world.checkpoints["cp-000000000001"] = []
    gone = await cloud.volume("gone")
    async with cloud.store.write() as tx:
        await volumes.delete(tx, gone)
    await cloud.until_volume(gone.id, VolumeState.DELETED)
    cloud.agent.world.volumes = {gone.id: {"used_bytes": 1}, "vol-000000000001": {"used_bytes": 1}}
    sweep = next(each for each, _, _ in cloud.control.reconcilers.all if isinstance(each, SweepNode))  # type: ignore[union-attr]
    await sweep.step()
    await sweep.step()
    assert set(cloud.agent.world.boxes) >= {kept.id, "sb-000000000001"}
    assert ghost.id not in cloud.agent.world.boxes
    assert set(cloud.agent.world.checkpoints) == {"cp-000000000001"}
    assert set(cloud.agent.world.volumes) == {"vol-000000000001"}
    async with cloud.store.read() as tx:
        told = [event.target for event in await tx.events.list(PROJECT, limit=100) if event.kind == "unknown"]
    assert sorted(told) == ["cp-000000000001", "sb-000000000001", "vol-000000000001"]
