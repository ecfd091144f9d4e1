"""Queues in the database, and the sums over what waits and runs that all figures of use are made of."""

from __future__ import annotations

import asyncio

import pytest

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.queue import Policy, QueueSpec
from skerry.model.sandbox import S
from skerry.store.store import Store
from skerry.store.transaction import PROJECT
from tests.store.conftest import StillClock
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio


async def test_the_default_queue_is_there_once_however_many_open_the_store(database_url: str) -> None:
    stores = [Store(database_url, StillClock()), Store(database_url, StillClock())]
    await asyncio.gather(*(store.open() for store in stores))
    async with stores[0].read() as tx:
        assert [queue.name for queue in await tx.queues.all()] == [QUEUE_DEFAULT]
        assert await tx.events.newest() == 0
    for store in stores:
        await store.close()


async def test_a_queue_changes_by_who_read_it_last(store: Store) -> None:
    async with store.write() as tx:
        made = await tx.queues.create(QueueSpec(name="lab", labels={"a": "b"}))
        with pytest.raises(NotFound):
            await tx.queues.find("default-2")
    with pytest.raises(AlreadyExists):
        async with store.write() as tx:
            await tx.queues.create(QueueSpec(name="lab"))
    fifo = made.spec.model_copy(update={"policy": Policy.FIFO})
    async with store.write() as tx:
        changed = await tx.queues.change(made, fifo, "policy")
        assert await tx.queues.change(made, fifo, "policy") is None
        assert await tx.queues.find("lab") == await tx.queues.find(made.id) == changed
        listed = await tx.queues.list(limit=1)
        assert ([queue.name for queue in listed.items], await tx.queues.count()) == ([QUEUE_DEFAULT], 2)
        assert [queue.name for queue in (await tx.queues.list(labels={"a": "b"}, limit=5)).items] == ["lab"]
        rest = await tx.queues.list(limit=5, page_token=listed.next_page_token)
        assert rest.items == [changed]
        await tx.queues.delete(made)
        assert await tx.queues.named("lab") is None
    async with store.read() as tx:
        told = [(event.name, event.kind, event.message) for event in await tx.events.list(PROJECT, limit=9)]
    assert told == [("lab", "created", ""), ("lab", "updated", "policy"), ("lab", "deleted", "")]


async def test_what_waits_and_what_has_a_place_is_summed_up(store: Store) -> None:
    lab = {"queue": "lab", "cpu": 2.0}
    await add_sandbox(store, "waits", owner="alice", spec=lab)
    await add_sandbox(store, "also", owner="alice", spec=lab)
    await add_sandbox(store, "runs", S.RUNNING, owner="alice", node="n1", spec=lab)
    await add_sandbox(store, "stops", S.STOPPING, owner="bob", node="n1")
    asks = {**lab, "gpu": 0.5, "extras": {"license": 1}}
    await add_sandbox(store, "computes", S.ASLEEP, owner="bob", node="n1", devices=[(3, 500, 7)], spec=asks)
    await add_sandbox(store, "stopped", S.STOPPED, owner="bob", node="n1", spec=asks)
    await add_sandbox(store, "gone", S.DELETED, owner="bob", node="n1", spec=lab)
    async with store.read() as tx:
        found = await tx.sandboxes.holdings()
        assert await tx.sandboxes.names_in_queue("lab", 2) == (["waits", "also"], 5)
        assert await tx.sandboxes.count_pending(9) == 2
        assert await tx.sandboxes.count_pending(1, queue="lab") == 1
        assert await tx.sandboxes.count_pending(9, queue="lab", project=PROJECT, owner="bob") == 0
    seen = {(each.queue, each.owner, each.node, each.pending, each.count, each.cpu, each.gpu) for each in found}
    assert seen == {
        ("lab", "alice", None, True, 2, 4.0, 0.0),
        ("lab", "alice", "n1", False, 1, 2.0, 0.0),
        ("default", "bob", "n1", False, 1, 1.0, 0.0),
        ("lab", "bob", "n1", False, 1, 2.0, 0.0),
        ("lab", "bob", "n1", False, 0, 0.0, 0.5),
    }
    assert [(each.devices, each.extras) for each in found if each.gpu] == [(((3, 500),), {"license": 1})]
