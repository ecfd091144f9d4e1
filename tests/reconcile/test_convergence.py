"""Whatever breaks at whichever call, the same end is reached: every verb once, nothing twice, nothing left over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from skerry.control.intents import volumes
from skerry.errors import InUse
from skerry.model.checkpoint import CheckpointState
from skerry.model.sandbox import GIB, Mount, S
from skerry.model.volume import Volume, VolumeState, VolumeUpdate
from skerry.store.transaction import PROJECT
from tests.reconcile.conftest import Cloud
from tests.reconcile.fake_world import Fault

pytestmark = pytest.mark.anyio

VERBS = ("start", "stop", "restore", "delete", "checkpoint", "delete_checkpoint", "image")
VOLUME_VERBS = ("create_volume", "resize_volume", "delete_volume")


async def life(cloud: Cloud) -> None:
    """Each verb, and after each what must be true of the machine."""
    image = await cloud.image()
    volume = await cloud.volume("data")
    box = await cloud.create("one", mounts=[Mount(volume="data", target="/srv")])
    running = await cloud.until_state(box, S.RUNNING)
    assert cloud.box(box).starts == 1
    assert cloud.box(box).disk == [image.digest]

    cloud.box(box).disk.append("good")
    kept = await cloud.until_checkpoint(await cloud.checkpoint(box), CheckpointState.READY)
    cloud.box(box).disk.append("wrecked")
    await cloud.restore(box, "v1")
    restored = await cloud.until_state(box, S.RUNNING)
    assert cloud.box(box).disk == [image.digest, "good"]
    assert (restored.id, restored.address, restored.generation) == (running.id, running.address, 2)

    cloud.box(box).disk.append("more")
    forks = await cloud.fork(box, 2)
    for fork in forks:
        assert (await cloud.until_state(fork, S.RUNNING)).parent == box.id
        assert cloud.box(fork).disk == [image.digest, "good", "more"]
        assert cloud.box(fork).starts == 1
    await cloud.until(lambda: _checkpoints(cloud), lambda found: found == {kept.id})

    await cloud.stop(box)
    stopped = await cloud.until_state(box, S.STOPPED)
    assert stopped.exit is not None
    await cloud.start(box)
    await cloud.until_state(box, S.RUNNING)
    assert cloud.box(box).starts == 3
    assert cloud.box(box).disk == [image.digest, "good", "more"]

    copy = await volumes_life(cloud, volume)

    for each in (box, *forks):
        await cloud.delete(each)
    for each in (box, *forks):
        await cloud.until_state(each, S.DELETED)
    await cloud.until(lambda: _checkpoints(cloud), lambda found: found == set())
    assert cloud.agent.world.boxes == {}
    async with cloud.store.write() as tx:
        await volumes.delete(tx, await tx.volumes.find(volume.id, PROJECT))
    await cloud.until_volume(volume.id, VolumeState.DELETED)
    assert set(cloud.agent.world.volumes) == {copy.id}
    await cloud.until(cloud.failed_operations, lambda found: found == [])


async def volumes_life(cloud: Cloud, volume: Volume) -> Volume:
    """A copy of one, resized; the volume itself is in use."""
    cloud.agent.world.volumes[volume.id]["content"].append("good")
    copy = await cloud.volume("copy", source="data")
    cloud.agent.world.volumes[volume.id]["content"].append("more")
    async with cloud.store.write() as tx:
        await volumes.update(tx, copy, VolumeUpdate(size=20 * GIB), used_bytes=None)
    resized = await cloud.until_volume(copy.id, VolumeState.READY)
    kept = cloud.agent.world.volumes[copy.id]
    assert (resized.size_bytes, kept["size_bytes"], kept["content"]) == (20 * GIB, 20 * GIB, ["good"])
    with pytest.raises(InUse, match="one, one-1, one-2"):
        async with cloud.store.write() as tx:
            await volumes.delete(tx, volume)
    return copy


async def _checkpoints(cloud: Cloud) -> set[str]:
    """On the machine; those of the database must agree."""
    async with cloud.store.read() as tx:
        known = await tx.checkpoints.in_states([CheckpointState.READY, CheckpointState.DELETING], 100)
    present = set(cloud.agent.world.checkpoints)
    return present | {each.id for each in known}


async def test_undisturbed(cloud: Cloud) -> None:
    await life(cloud)
    ordered = [call.split()[0] for call in cloud.agent.world.calls]
    verbs = {verb: ordered.count(verb) for verb in ("start", "stop", "restore", "delete", "checkpoint")}
    assert verbs == {"start": 4, "stop": 1, "restore": 1, "delete": 3, "checkpoint": 2}


@pytest.mark.parametrize("fault", list(Fault))
async def test_every_verb_fails_twice(cloud: Cloud, fault: Fault) -> None:
    for verb in VERBS + VOLUME_VERBS:
        if (verb, fault) != ("image", Fault.ERROR):  # an image's failure is told to the user, not repeated
            cloud.agent.faults[verb] = [fault, fault]
    await life(cloud)
    assert all(not left for left in cloud.agent.faults.values())


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("verb", VERBS + VOLUME_VERBS)
async def test_control_is_killed_in_every_verb(cloud: Cloud, verb: str, after_effect: bool) -> None:
    """Twice in each: before the agent has done it, or after and before control has heard of it."""
    left = 2

    async def maybe_kill(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> object:
        nonlocal left
        if left == 0 or verb_of(request) != verb:
            return await handler(request)
        left -= 1
        if after_effect:
            await asyncio.shield(asyncio.ensure_future(handler(request)))
        bounced.append(asyncio.ensure_future(bounce(cloud)))
        await asyncio.sleep(30)  # until the dying program's connection breaks
        raise AssertionError("control was not killed")

    bounced: list[asyncio.Future[None]] = []
    cloud.agent.between = maybe_kill
    await life(cloud)
    await asyncio.gather(*bounced)
    assert left == 0
    assert len(bounced) == 2


async def bounce(cloud: Cloud) -> None:
    await cloud.kill_control()
    await cloud.start_control()


def verb_of(request: web.Request) -> str:
    parts = request.path.strip("/").split("/")
    match request.method, parts:
        case "PUT", ["sandboxes", _]:
            return "start"
        case "DELETE", ["sandboxes", _]:
            return "delete"
        case "POST", ["sandboxes", _, ("stop" | "restore") as verb]:
            return verb
        case "PUT", ["sandboxes", _, "checkpoints", _]:
            return "checkpoint"
        case "DELETE", ["checkpoints", _]:
            return "delete_checkpoint"
        case "POST", ["images"]:
            return "image"
        case "PUT", ["volumes", _]:
            return "create_volume"
        case "POST", ["volumes", _, "resize"]:
            return "resize_volume"
        case "DELETE", ["volumes", _]:
            return "delete_volume"
        case _:
            return ""


async def test_agent_is_away_while_everything_is_asked(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.create("one")
    await cloud.until_state(box, S.RUNNING)
    await cloud.agent.stop()
    second = await cloud.create("two")
    await cloud.stop(box)
    await asyncio.sleep(1.0)
    assert (await cloud.get(box)).state is S.STOPPING
    assert (await cloud.get(second)).state in (S.PENDING, S.STARTING)  # unreachable is not failed
    await cloud.agent.start()
    await cloud.until_state(box, S.STOPPED)
    await cloud.until_state(second, S.RUNNING)
    assert await cloud.failed_operations() == []
