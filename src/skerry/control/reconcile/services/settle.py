"""deleting -> deleted, and all that a service that is there is owed: its replicas, made, woken, drained, taken away.

Each service is looked at by itself and written in one transaction with what follows for its sandboxes; a step that was
cut off anywhere is simply done again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, ClassVar

from skerry.clock import Clock
from skerry.control.intents import sandboxes
from skerry.control.reconcile.jobs.advance import Overtaken, Seldom
from skerry.control.reconcile.services.checkpoints import keep_checkpoints
from skerry.control.reconcile.services.decide import decide
from skerry.control.reconcile.services.facts import Facts, Plan
from skerry.control.reconcile.services.news import ServiceNews
from skerry.control.reconcile.services.replicas import MakeReplicas, from_image, taking
from skerry.control.traffic_book import TrafficBook
from skerry.control.wakeups import Wakeup
from skerry.errors import Conflict, SkerryError
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import SERVICE_FINAL, Service, ServiceState
from skerry.store.store import Store
from skerry.store.transaction import Transaction

GRACE_S = 10.0
SLACK_S = 0.01
DRAINING_S = 0.5
"""While something drains it is looked at so often: what gateways say of it is nobody's write."""


class SettleServices:
    moves: ClassVar = frozenset({(ServiceState.DELETING, ServiceState.DELETED)})

    def __init__(
        self,
        store: Store,
        clock: Clock,
        news: ServiceNews,
        book: TrafficBook,
        make: MakeReplicas,
        wakeup: Wakeup,
    ) -> None:
        self._store = store
        self._clock = clock
        self._news = news
        self._book = book
        self._make = make
        self._wakeup = wakeup
        self._seldom = Seldom(store, clock)
        self._due: dict[str, datetime] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def step(self) -> None:
        now = self._clock.now()
        ids = self._news.take() | {service for service, at in self._due.items() if at <= now}
        with self._seldom.look(told=bool(ids)) as look_at_all:
            if look_at_all:
                async with self._store.read() as tx:
                    there = {service.id: service for service in await tx.services.all()}
                ids |= there.keys()
                self._book.drop(there)
            for service in sorted(ids):
                self._due.pop(service, None)
                await self._settle(service)
        self._set_timer()

    async def _settle(self, service_id: str) -> None:
        try:
            async with self._store.read() as tx:  # most often nothing is to be written
                found = await self._decide(tx, service_id)
            if found is None:
                return
            if not found[1].does_nothing():
                async with self._store.write() as tx:
                    found = await self._apply(tx, service_id)
        except (Overtaken, Conflict):
            self._news.again(service_id)
            self._wakeup.set()
            return
        if found is not None and found[1].due_at is not None:
            self._due[service_id] = found[1].due_at

    async def _decide(self, tx: Transaction, service_id: str) -> tuple[Service, Plan] | None:
        service = await tx.services.get(service_id)
        if service is None or service.state in SERVICE_FINAL:
            return None
        boxes = await tx.sandboxes.of_service(service_id)
        idle = frozenset(box.id for box in boxes if self._book.is_idle(box))
        named = sorted(disk.checkpoint for disk in service.checkpoints.values())
        checkpoints = {each.id: each for each in await tx.checkpoints.with_ids(named)} if named else {}
        waits = any(box.state is S.PENDING and box.source_checkpoint for box in boxes)
        nodes = await taking(tx) if waits else frozenset[str]()
        plan = decide(Facts(service, boxes, self._book.in_flight(), idle, tx.now, checkpoints, nodes))
        if any(box.replica and box.replica.draining_at for box in boxes) or plan.drain:
            plan.at(tx.now + timedelta(seconds=DRAINING_S))
        return service, plan

    async def _apply(self, tx: Transaction, service_id: str) -> tuple[Service, Plan] | None:
        there = await tx.services.get(service_id)
        # Locked first: another control program that looks at the same service waits here, and then sees what this did.
        if there is None or await tx.services.lock(there) is None:
            return None
        found = await self._decide(tx, service_id)
        if found is None:
            return None
        service, plan = found
        await self._replicas(tx, service, plan)
        if plan.take or plan.forget or plan.spoilt:
            plan.changes |= await keep_checkpoints(tx, service, plan)
        if plan.unfork and not await from_image(tx, service, plan.unfork):
            raise Overtaken
        if plan.make:
            plan.changes |= await self._make(tx, service, plan)
        if plan.settled is not None and service.operation is not None:
            await tx.operations.finish(service.operation, plan.settled or None)
        if plan.told:
            told = [("service", service.id, service.name, event, message) for event, message in plan.told]
            await tx.events.add(told)
        if plan.over:
            await tx.services.move(service, ServiceState.DELETED, "deleted")
            await tx.services.forget(service.id)
        elif plan.changes and await tx.services.change(service, plan.changes) is None:
            raise Overtaken
        return found

    async def _replicas(self, tx: Transaction, service: Service, plan: Plan) -> None:
        gone = {box.id for box in plan.delete}
        changed: dict[str, Sandbox] = {}
        for box in plan.healthy:
            if box.id not in gone:
                changed[box.id] = await _tell(tx, box, healthy_at=tx.now)
        for box in plan.drain:
            if box.id not in gone:
                changed[box.id] = await _tell(tx, changed.get(box.id, box), draining_at=tx.now)
        for box in plan.park:
            stopped = await sandboxes.stop(tx, changed.get(box.id, box), GRACE_S)
            await _tell(tx, stopped, draining_at=None, parked=True)
        for box in plan.wake:
            await _wake(tx, box)
        for box in plan.delete:
            await sandboxes.delete(tx, box, force=True)
        if plan.drain:
            numbers = ", ".join(str(box.replica.number) for box in plan.drain if box.replica is not None)
            await tx.events.add([("service", service.id, service.name, "draining", f"replicas {numbers}")])

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            after_s = max(0.0, (min(self._due.values()) - self._clock.now()).total_seconds()) + SLACK_S
            self._timer = asyncio.get_running_loop().call_later(after_s, self._wakeup.set)


async def _tell(tx: Transaction, box: Sandbox, **changes: Any) -> Sandbox:
    """Into its part of its sandbox's record, whatever else of that has changed."""

    def apply(fresh: Sandbox) -> dict[str, Any]:
        assert fresh.replica is not None
        return {"replica": fresh.replica.model_copy(update=changes)}

    written = await tx.sandboxes.change(box, apply)
    if written is None:
        raise Overtaken
    return written


async def _wake(tx: Transaction, box: Sandbox) -> None:
    try:
        started = await sandboxes.start(tx, box)
    except Conflict:
        raise
    except SkerryError:
        await sandboxes.delete(tx, box, force=True)  # it cannot be started again: another is made in its place
        return
    await _tell(tx, started, parked=False, woken=True, healthy_at=None)
