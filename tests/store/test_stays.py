"""A stay is as long as a sandbox holds its place, and belongs to whoever held it."""

from __future__ import annotations

from datetime import timedelta
from math import log
from typing import Any

import pytest
from sqlalchemy import select

from skerry.control.reconcile.ledger.past import Past
from skerry.model.queue import QueueSpec
from skerry.model.sandbox import S
from skerry.model.usage import By
from skerry.scheduler.snapshot import Amounts
from skerry.store.store import Store
from skerry.store.tables import sandboxes, stays
from tests.store.conftest import StillClock
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio


async def rows(store: Store) -> list[Any]:
    async with store.read() as tx:
        c = stays.c
        query = select(c.sandbox, c.node, c.queue, c.cpu, c.began_s, c.ended_s).order_by(c.sequence)
        return [tuple(row) for row in (await tx.connection.execute(query)).all()]


async def test_it_lasts_from_the_place_to_the_stop(store: Store, clock: StillClock) -> None:
    box = await add_sandbox(store, "one", spec={"cpu": 2, "queue": "batch"})
    began_s = clock.now().timestamp()
    assert await rows(store) == []
    for state in (S.STARTING, S.RUNNING, S.ASLEEP, S.STOPPING):
        async with store.write() as tx:
            box = await tx.sandboxes.move(box, state, "x", changes={"node": "node-1"}) or box
        clock.move(10)
        assert await rows(store) == [(box.id, "node-1", "batch", 2.0, began_s, None)]
        assert box.placed_at is not None
        assert box.placed_at.timestamp() == began_s
    async with store.write() as tx:
        box = await tx.sandboxes.move(box, S.STOPPED, "x") or box
    assert box.placed_at is None
    assert await rows(store) == [(box.id, "node-1", "batch", 2.0, began_s, began_s + 40)]


async def test_what_is_given_more_begins_another(store: Store, clock: StillClock) -> None:
    box = await add_sandbox(store, "one", S.RUNNING, node="node-1")
    clock.move(5)
    async with store.write() as tx:
        await tx.sandboxes.change(box, {"spec": box.spec.model_copy(update={"cpu": 4.0})})
    assert [(row[3], row[5] is None) for row in await rows(store)] == [(1.0, False), (4.0, True)]


async def test_a_move_that_came_too_late_begins_nothing(store: Store) -> None:
    box = await add_sandbox(store, "one")
    async with store.write() as tx:
        assert await tx.sandboxes.move(box, S.STARTING, "x", changes={"node": "node-1"})
        assert await tx.sandboxes.move(box, S.STARTING, "x", changes={"node": "node-2"}) is None
    assert len(await rows(store)) == 1


async def test_only_what_is_asked_for_beyond_cores_and_memory_is_in_its_own_column(store: Store) -> None:
    await add_sandbox(store, "plain", spec={"cpu": 2})
    await add_sandbox(store, "gpu", spec={"gpu": 0.5, "gpu_kind": ["h100"], "tier": "free"})
    async with store.read() as tx:
        c = sandboxes.c
        found = (await tx.connection.execute(select(c.asks, c.gpu_milli, c.tier).order_by(c.sequence))).all()
    assert [tuple(row) for row in found] == [(None, 0, 3), ('{"gpu": 0.5, "gpu_kind": ["h100"]}', 500, 0)]


async def test_what_was_used_is_summed_up_by_whose_it_was(store: Store, clock: StillClock) -> None:
    for name, cpu in (("one", 2.0), ("two", 1.0)):
        await add_sandbox(store, name, S.RUNNING, node="node-1", owner="ada", spec={"cpu": cpu, "memory": "2GiB"})
    began = clock.now()
    clock.move(3600)
    async with store.write() as tx:
        two = await tx.sandboxes.find("two", "default")
        await tx.sandboxes.move(two, S.STOPPED, "x")
    clock.move(3600)
    async with store.read() as tx:
        [used] = await tx.stays.used(By.USER, since=began, until=clock.now())
        [later] = await tx.stays.used(By.USER, since=began + timedelta(hours=1), until=clock.now())
        assert await tx.stays.used(By.USER, since=began, until=clock.now(), project="other") == []
    assert (used.name, used.core_hours, used.gib_hours, used.gpu_hours, used.stays) == ("ada", 5.0, 6.0, 0.0, 2)
    assert (later.core_hours, later.stays) == (2.0, 1)


async def test_what_was_used_long_ago_counts_less_and_is_read_again_after_a_restart(
    store: Store, clock: StillClock
) -> None:
    half_life_s = 7200.0
    for name in ("ada", "bob"):
        await add_sandbox(store, name, S.RUNNING, node="node-1", owner=name, spec={"cpu": 2})
    clock.move(half_life_s)
    async with store.write() as tx:
        await tx.sandboxes.move(await tx.sandboxes.find("ada", "default"), S.STOPPED, "x")
    queues = {"default": QueueSpec(name="default", half_life_s=half_life_s)}
    totals = {"default": Amounts(cpu_milli=4000, memory_bytes=2**50, gpu_milli=0)}
    clock.move(2 * half_life_s)
    shares = await Past(store).shares(queues, totals.__getitem__, clock.now().timestamp())
    ada, bob = (shares["default", "default", name] for name in ("ada", "bob"))
    # Of half the cores, in half-lives weighed: the integral of 2 ** -t from 2 to 3, and from 0 to 3.
    assert ada == pytest.approx(0.5 * (2**-2 - 2**-3) / log(2), rel=0.02)
    assert bob == pytest.approx(0.5 * (1 - 2**-3) / log(2), rel=0.02)
    never = {"default": QueueSpec(name="default", half_life_s=None)}
    assert await Past(store).shares(never, totals.__getitem__, clock.now().timestamp()) == {}
