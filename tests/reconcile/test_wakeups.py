"""Who is woken by what a machine says: with ten thousand of them nearly all of it is what they said before."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from skerry.control.intents import nodes
from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.shapes import Limits
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.control.reconcile.nodes.watch import WatchNode
from skerry.control.wakeups import Wakeups
from skerry.model.node import Capacity
from skerry.store.store import Store
from skerry.telemetry import Log
from tests.store.conftest import StillClock

pytestmark = pytest.mark.anyio
OFFER = Capacity(
    cpu=4, memory_bytes=2**33, disk_bytes=10**11, disk_free_bytes=10**11, kernel="6.1", runtime="container"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_node_wakes_whom_it_concerns(tmp_path: Path) -> None:
    store, wakeups, clock = Store(f"sqlite+aiosqlite:///{tmp_path}/skerry.db", StillClock()), Wakeups(), StillClock()
    await store.open()
    limits = Limits(cpu_overcommit=1, memory_overcommit=1, sandboxes_max=100, disk_reserve_bytes=10**9)
    mirror = Mirror(store, clock, limits)
    await mirror.refresh()
    store.changes.listen(wakeups.about)
    store.changes.listen(lambda record: wakeups.place_sandboxes.set() if mirror.hear(record) else None)
    agent: Any = None
    watch = WatchNode(
        store=store,
        agent=agent,
        agent_socket=tmp_path,
        name="one",
        book=ReportBook(),
        wakeups=wakeups,
        clock=clock,
        log=Log("test", "error"),
    )

    def woken() -> set[str]:
        mirror.nodes_changed = False
        found = {each.name for each in fields(wakeups) if getattr(wakeups, each.name)._event.is_set()}
        for name in found:
            getattr(wakeups, name)._event.clear()
        return found

    try:
        await watch._seen(OFFER)
        assert {"place_sandboxes", "start_sandboxes", "forget_jobs"} <= woken()
        await watch._seen(OFFER)
        await watch._seen(OFFER.model_copy(update={"disk_free_bytes": 10**10}))
        assert woken() == set(), "it said what it had said, but for how much of its disk is free"
        await watch._seen(OFFER.model_copy(update={"disk_free_bytes": 10**8}))
        assert woken() == {"place_sandboxes"}, "its disk is full"
        async with store.write() as tx:
            await nodes.cordon(tx, await tx.nodes.find("one"))
        assert woken() == {"place_sandboxes"}
        await watch._lost_touch()
        assert woken() <= {"place_sandboxes"}
        await watch._seen(OFFER)
        assert {"start_sandboxes", "stop_sandboxes", "sweep_node"} <= woken()
    finally:
        await store.close()
