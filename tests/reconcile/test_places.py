"""Places: who waits is told why, who has to make room comes back, and what is given is what the database says."""

from __future__ import annotations

import asyncio

import pytest

from skerry.control.intents import evictions, nodes
from skerry.errors import Invalid
from skerry.model.node import Node
from skerry.model.sandbox import GIB, S, Sandbox
from skerry.scheduler.ledger import check
from skerry.scheduler.snapshot import Snapshot
from tests.reconcile.conftest import Cloud

pytestmark = pytest.mark.anyio


async def evict(cloud: Cloud, sandbox: Sandbox) -> None:
    async with cloud.store.write() as tx:
        assert await evictions.evict(tx, sandbox.id, "others need it", grace_s=0, for_others=True)


async def drain(cloud: Cloud, wanted: bool) -> Node:
    async with cloud.store.write() as tx:
        node = await tx.nodes.find((await tx.nodes.all())[0].id)
        return await (nodes.drain if wanted else nodes.uncordon)(tx, node)


async def test_who_makes_room_comes_back_by_itself_on_its_disk(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.box(box).disk.append("work")
    await evict(cloud, box)
    again = await cloud.until(lambda: cloud.get(box), lambda found: found.state is S.RUNNING and found.generation > 2)
    assert (again.evicted, again.node) == (None, box.node)
    assert cloud.box(box).disk[-1] == "work"
    assert [call.split()[0] for call in cloud.agent.world.calls if box.id in call] == ["start", "stop", "start"]


async def test_one_that_its_owner_stops_meanwhile_does_not_come_back(cloud: Cloud) -> None:
    await cloud.image()
    box = await cloud.until_state(await cloud.create("one"), S.RUNNING)
    cloud.agent.slow_s["stop"] = 0.5
    await evict(cloud, box)
    await cloud.until_state(box, S.STOPPING)
    await cloud.stop(box)
    await cloud.until_state(box, S.STOPPED)
    await asyncio.sleep(0.3)
    assert (await cloud.get(box)).state is S.STOPPED


async def test_a_drained_node_is_emptied_and_filled_again(cloud: Cloud) -> None:
    await cloud.image()
    boxes = [await cloud.until_state(await cloud.create(f"box-{number}"), S.RUNNING) for number in range(3)]
    await drain(cloud, True)
    for box in boxes:
        waiting = await cloud.until_state(box, S.PENDING)
        assert waiting.evicted is not None
        assert "drained" in waiting.evicted
    await drain(cloud, False)
    for box in boxes:
        await cloud.until_state(box, S.RUNNING)


async def test_who_waits_is_told_what_is_missing(cloud: Cloud) -> None:
    await cloud.image()
    await cloud.until_state(await cloud.create("one"), S.RUNNING)
    await drain(cloud, True)
    box = await cloud.create("two")
    assert cloud.control is not None
    why = cloud.control.reconcilers.place_sandboxes.why_waiting
    told = await cloud.until(lambda: why(box.id), lambda found: found is not None and found.position is not None)
    assert told.because == "no-nodes"
    assert (await cloud.get(box)).state is S.PENDING


async def test_killed_between_decision_and_write_nothing_is_given_twice(cloud: Cloud) -> None:
    await cloud.image()
    boxes = [await cloud.create(f"box-{number}", memory=GIB) for number in range(12)]
    for _ in range(3):
        await cloud.kill_control()
        await cloud.start_control()
    for box in boxes:
        await cloud.until_state(box, S.RUNNING)
    assert all(box.starts == 1 for box in cloud.agent.world.boxes.values())
    assert cloud.control is not None
    mirror = cloud.control.reconcilers.mirror
    await mirror.refresh()
    assert set(mirror.placements) == {box.id for box in boxes}
    assert check(Snapshot(tuple(mirror.nodes.values()), tuple(mirror.placements.values()))) == []


async def test_what_no_node_could_have_is_refused_at_once(cloud: Cloud) -> None:
    await cloud.image()
    with pytest.raises(Invalid, match="largest machine has 4"):
        await cloud.create("large", cpu=64)
