"""Places per second of the whole control plane's side: the store (SQLite), the mirror, the plan and the guarded writes.

Ten thousand nodes in a database, then waves of sandboxes that wait; timed is each step of the reconciler that places,
from reading what has changed to the last commit. The machines' side is not in it: an agent starts what it is given.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from skerry.clock import SystemClock
from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.shapes import Limits
from skerry.control.reconcile.sandboxes.place import PlaceSandboxes
from skerry.control.wakeups import Wakeup
from skerry.model.identity import make_id
from skerry.model.node import Node, NodeState
from skerry.model.resources import Accelerator
from skerry.model.sandbox import GIB, S, Sandbox, SandboxSpec
from skerry.store.store import Store
from skerry.telemetry import Log

NODES = 10_000
WAVES = 4
IN_A_WAVE = 2000
DIGEST = "sha256:" + "a" * 64
PUBLISHED_PER_S = 1950.0
"""Gödel at 10,000 nodes, of 2,800 offered (Xiang et al., SoCC 2023)."""
ASKS = ({"cpu": 1}, {"cpu": 4, "memory": 8 * GIB}, {"cpu": 2, "gpu": 0.5}, {"cpu": 8, "gpu": 1}, {"cpu": 16, "gpu": 2})


async def add_nodes(store: Store) -> None:
    async with store.write() as tx:
        for number in range(NODES):
            gpus = [Accelerator(kind="a100", count=8, memory=80 * GIB)] if number % 2 else []
            node = Node(
                id=make_id("node", number.to_bytes(6)),
                name=f"node-{number}",
                state=NodeState.READY,
                agent_socket=f"/{number}",
                cpu=96,
                memory_bytes=768 * GIB,
                disk_bytes=10**13,
                disk_free_bytes=10**13,
                accelerators=gpus,
                seen_at=tx.now,
            )
            await tx.nodes.put(node, None)


async def add_waiting(store: Store, wave: int) -> None:
    async with store.write() as tx:
        made: list[Sandbox] = []
        for number in range(IN_A_WAVE):
            name = f"box-{wave}-{number}"
            spec = SandboxSpec(image="debian:12", name=name, **ASKS[number % len(ASKS)])  # type: ignore[arg-type]
            made.append(
                Sandbox(
                    id=make_id("sandbox", os.urandom(6)),
                    project="default",
                    name=name,
                    state=S.PENDING,
                    spec=spec,
                    generation=1,
                    image_digest=DIGEST,
                    created_at=tx.now,
                    updated_at=tx.now,
                )
            )
        await tx.sandboxes.insert(made, [])


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="skerry-bench-", dir="/var/tmp") as folder:
        clock = SystemClock()
        store = Store(f"sqlite+aiosqlite:///{Path(folder)}/skerry.db", clock)
        await store.open()
        async with store.write() as tx:
            await tx.queues.ensure_default()
        await add_nodes(store)
        limits = Limits(cpu_overcommit=1, memory_overcommit=1, sandboxes_max=4000, disk_reserve_bytes=0)
        mirror = Mirror(store, clock, limits)
        placing = PlaceSandboxes(store, clock, mirror, Wakeup(), Log("bench", "error"))
        await placing.step()
        rates: list[float] = []
        for wave in range(WAVES):
            await add_waiting(store, wave)
            began_s = time.process_time()
            await placing.step()
            took_s = time.process_time() - began_s
            await mirror.refresh()
            assert not mirror.waiting, f"{len(mirror.waiting)} of {IN_A_WAVE} were not placed"
            rates.append(IN_A_WAVE / took_s)
            print(f"wave {wave}: {rates[-1]:,.0f} places per CPU second", flush=True)
        await store.close()
    ours = statistics.median(rates[1:])
    figure = {
        "name": "scheduler_throughput/system_10000",
        "ours": round(ours, 1),
        "peer": PUBLISHED_PER_S,
        "peer_name": "Gödel, published",
        "ratio": round(ours / PUBLISHED_PER_S, 2),
        "unit": "placements per CPU second",
    }
    json.dump(figure, sys.stdout)
    print()


if __name__ == "__main__":
    asyncio.run(main())
