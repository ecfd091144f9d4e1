"""Places are given under a guard: to whoever still waits as it was believed, and to gangs as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.model.sandbox import S, Sandbox
from skerry.store.ledger import Giving
from skerry.store.stays import held
from skerry.store.store import Store
from tests.store.conftest import StillClock
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio


def giving(box: Sandbox, work: str) -> Giving:
    return Giving(box.id, work, box.generation, "node-1", (), "sha256:0", "on node-1")


async def test_a_gang_gets_its_places_as_a_whole_or_not_at_all(store: Store, clock: StillClock) -> None:
    """One of its members was deleted while the plan was made; what else was planned stands."""
    gang = [await add_sandbox(store, f"member-{rank}", gang="g", gang_size=2, gang_min=2, rank=rank) for rank in (0, 1)]
    alone = await add_sandbox(store, "alone")
    plan = [giving(gang[0], "g"), giving(gang[1], "g"), giving(alone, alone.id)]
    async with store.write() as tx:
        known = await tx.events.newest()
        assert await tx.sandboxes.move(gang[1], S.DELETING, "deleting", changes={"generation": 2})
    async with store.write() as tx:
        assert await tx.ledger.give([replace(each) for each in plan], at=clock.now(), known=known) == (
            {alone.id},
            known + 2,
        )
    async with store.read() as tx:
        assert await tx.stays.astray() == []


async def test_uses_that_have_gone_astray_are_found(store: Store) -> None:
    one = await add_sandbox(store, "one", S.RUNNING, node="node-1")
    two = await add_sandbox(store, "two", S.RUNNING, node="node-1")
    async with store.write() as tx:
        assert await tx.stays.astray() == []
        await tx.stays.begin([{**held_by(one), "sandbox": "sb-nobody"}])
        await tx.stays.follow(two, two.model_copy(update={"state": S.STOPPED}))
        assert await tx.stays.astray() == [
            f"the use of sandbox {two.id} is not written down as it is",
            "a use of sandbox sb-nobody goes on without a place",
        ]


def held_by(box: Sandbox) -> dict[str, object]:
    found = held(box)
    assert found is not None
    return found


async def test_evictions_are_counted_by_queue_and_hour(store: Store, clock: StillClock) -> None:
    for name, queue in (("one", "a"), ("two", "a"), ("three", "b")):
        box = await add_sandbox(store, name, S.RUNNING, node="node-1", spec={"queue": queue})
        async with store.write() as tx:
            await tx.stays.evict(box.id)
            await tx.sandboxes.move(box, S.STOPPING, "x")
        clock.move(1000)
    now_s = clock.now().timestamp()
    async with store.read() as tx:
        assert await tx.stays.evicted(now_s - 3600) == {"a": 2, "b": 1}
        assert await tx.stays.evicted(now_s - 2500) == {"a": 1, "b": 1}
