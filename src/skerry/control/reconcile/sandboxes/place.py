"""pending -> starting: give whoever is next in its queue a place, once what it starts from is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import ClassVar

from skerry.clock import Clock
from skerry.control.intents import evictions
from skerry.control.reconcile.ledger.gangs import works_of
from skerry.control.reconcile.ledger.inspection import Inspection
from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.past import Past
from skerry.control.reconcile.ledger.sources import Source, sources_of
from skerry.control.reconcile.ledger.words import told, why_there, with_names
from skerry.control.reconcile.ledger.world import World
from skerry.control.wakeups import Wakeup
from skerry.model.explanation import Wait
from skerry.model.queue import Preemption
from skerry.model.sandbox import S
from skerry.scheduler.place import place
from skerry.scheduler.plan import Plan, Start
from skerry.scheduler.rules import queue_of
from skerry.scheduler.snapshot import Amounts, Queue, Snapshot, Work
from skerry.store.ledger import Giving
from skerry.store.store import Store
from skerry.telemetry import Log

GIVEN_AT_ONCE = 256
"""Places in one transaction: some 20 ms, for which others who write wait."""
INLINE_MAX = 64
"""So many that wait are decided on at once; for more a thread decides, so that requests are answered meanwhile."""
HOUR_S = 3600.0
FULL = "the disk pool is full: delete checkpoints, sandboxes or images, or raise pool_size"


class PlaceSandboxes:
    moves: ClassVar = frozenset({(S.PENDING, S.STARTING), (S.PENDING, S.RESTORING), (S.PENDING, S.FAILED)})

    def __init__(self, store: Store, clock: Clock, mirror: Mirror, wakeup: Wakeup, log: Log) -> None:
        self._store = store
        self._clock = clock
        self._mirror = mirror
        self._wakeup = wakeup
        self._log = log
        self._world = World()
        self.inspection = Inspection(store, mirror, log)
        self._past = Past(store)
        self._deciding = asyncio.Lock()
        """Reasons are worked out of the columns, when nobody is changing them."""
        self._plan = Plan()
        self._decided_s = 0.0

    async def step(self) -> None:
        mirror = self._mirror
        await mirror.refresh()
        now = self._clock.now()
        queues = await self._queues(now.timestamp())
        astray = self._world.follow(mirror)
        if mirror.is_anew:
            await self.inspection.look(queues, astray)
        await self._drain()
        if not mirror.waiting:
            return
        sources = await sources_of(self._store, mirror.waiting.values())
        await self._refuse({key: source.refused for key, source in sources.items() if source.refused})
        works = works_of(mirror, sources)
        if works:
            await self._decide(works, queues, sources, now)

    async def why_waiting(self, sandbox: str) -> Wait | None:
        """What the newest decision says of it. None: it does not wait, or has not been looked at yet."""
        row = self._mirror.waiting.get(sandbox)
        if row is None:
            return None
        if row.queue not in self._mirror.queues:
            return Wait(because="no-nodes", say=f"there is no queue {row.queue} any more; give it another one")
        async with self._deciding:
            found = self._plan.waiting.get(row.gang or row.id)
        if found is None:
            missing = row.image_name if row.image_digest is None else "what it starts from"
            return Wait(because="source", say=f"it waits until {missing} is there, or for its turn to be looked at")
        return told(found, self._mirror, self._decided_s)

    async def _queues(self, now_s: float) -> tuple[Queue, ...]:
        """With what is left of their budgets, which nobody asks for while nobody waits."""
        evicted: Mapping[str, int] = {}
        if self._mirror.waiting:
            async with self._store.read() as tx:
                evicted = await tx.stays.evicted(now_s - HOUR_S)
        return tuple(queue_of(spec, evicted.get(name, 0)) for name, spec in self._mirror.queues.items())

    async def _decide(
        self, works: tuple[Work, ...], queues: tuple[Queue, ...], sources: Mapping[str, Source], now: datetime
    ) -> None:
        mirror, world = self._mirror, self._world
        nodes, placements = tuple(mirror.nodes.values()), tuple(mirror.placements.values())
        snapshot = Snapshot(nodes, placements, works, queues)
        if len({(work.project, work.user) for work in works}) > 1:  # else there is nobody to share with
            terms = {queue.name: queue.terms for queue in queues}

            def total(queue: str) -> Amounts:
                return world.cell.totals(world.cell.pool(terms[queue]))

            past = await self._past.shares(mirror.queues, total, now.timestamp())
            snapshot = replace(snapshot, history=past)
        given = (snapshot, now.timestamp(), world.cell, world.ledger)
        world.begin()
        async with self._deciding:
            plan = place(*given) if len(works) <= INLINE_MAX else await asyncio.to_thread(place, *given)
            self._plan, self._decided_s = plan, now.timestamp()
        await self._give(plan, sources, now)
        world.done()
        for eviction in plan.evictions:
            await self._evict(eviction.id, with_names(eviction.say, mirror), for_others=True)
        await self._refuse_where_all_is_full(works, plan)

    async def _give(self, plan: Plan, sources: Mapping[str, Source], now: datetime) -> None:
        known = self._mirror.newest
        self._world.gave(plan.starts)
        for batch in _whole_works(plan.starts):
            given = [
                Giving(
                    id=start.id,
                    work=start.work,
                    generation=self._mirror.waiting[start.id].generation,
                    node=start.node,
                    devices=start.devices,
                    image_digest=sources[start.id].digest or "",
                    say=why_there(start, self._mirror),
                )
                for start in batch
            ]
            async with self._store.write() as tx:
                done = await tx.ledger.give(given, at=now, known=known)
            got = done[0] if done is not None else set[str]()
            self._world.forget(start.id for start in batch if start.id not in got)
            if done is None or len(got) < len(batch):
                self._wakeup.set()
            if done is not None:
                known = done[1]

    async def _drain(self) -> None:
        """Who is on a node that is to be emptied, and has not been asked to leave."""
        draining = {node.id for node in self._mirror.records.values() if node.draining}
        if not draining:
            return
        there = [each for each in self._mirror.placements.values() if each.node in draining and not each.leaving]
        for placement in there:
            name = self._mirror.records[placement.node].name
            await self._evict(placement.id, f"its node {name} is being drained", for_others=False)

    async def _evict(self, sandbox: str, why: str, *, for_others: bool) -> None:
        queue = self._mirror.queues.get(self._mirror.placements[sandbox].queue)
        grace_s = Preemption().grace_s if queue is None else queue.preemption.grace_s
        async with self._store.write() as tx:
            await evictions.evict(tx, sandbox, why, grace_s=grace_s, for_others=for_others)

    async def _refuse(self, refused: Mapping[str, str]) -> None:
        if not refused:
            return
        async with self._store.write() as tx:
            for sandbox in await tx.sandboxes.with_ids(sorted(refused)):
                if sandbox.state is S.PENDING:
                    reason = refused[sandbox.id]
                    await tx.sandboxes.move(sandbox, S.FAILED, "failed", message=reason, changes={"reason": reason})

    async def _refuse_where_all_is_full(self, works: tuple[Work, ...], plan: Plan) -> None:
        """Waiting does not make room on a disk as it does in memory: nobody gives it back by going idle."""
        ready = [node for node in self._mirror.nodes.values() if node.accepts]
        if not ready or any(node.disk_bytes for node in ready):
            return
        started = {start.id for start in plan.starts}
        new = [name for work in works for name, shape in work.members if shape.disk_bytes and name not in started]
        await self._refuse(dict.fromkeys(new, FULL))


def _whole_works(starts: tuple[Start, ...]) -> list[list[Start]]:
    """In batches, none of which ends within a gang: it starts as a whole or not at all."""
    batches: list[list[Start]] = []
    for start in starts:
        if not batches or (len(batches[-1]) >= GIVEN_AT_ONCE and batches[-1][-1].work != start.work):
            batches.append([])
        batches[-1].append(start)
    return batches
