"""Write down how many replicas a service that is scaled by itself is to have; making them is another's work."""

from __future__ import annotations

from typing import Any, ClassVar

from skerry.control.reconcile.services.asked import Asked, Memory
from skerry.control.reconcile.services.wish import Wish, wish
from skerry.control.traffic_book import TrafficBook
from skerry.control.traffic_exchange import TrafficExchange
from skerry.control.wakeups import Wakeup
from skerry.model.rollout import Phase
from skerry.model.service import Service, ServiceState
from skerry.model.serving import start_s
from skerry.model.traffic import TrafficReport
from skerry.store.store import Store

LOOK_EVERY_S = 1.0
"""As often as gateways report."""


class ScaleServices:
    moves: ClassVar[frozenset[tuple[ServiceState, ServiceState]]] = frozenset()

    def __init__(self, store: Store, book: TrafficBook, exchange: TrafficExchange, wakeup: Wakeup) -> None:
        self._store = store
        self._book = book
        self._exchange = exchange
        self._wakeup = wakeup
        self._memories: dict[str, Memory] = {}
        self._said: dict[str, Wish] = {}
        """Id of a service -> the newest."""
        book.listen(self._hear)

    def _hear(self, report: TrafficReport) -> None:
        """Somebody is held: at once, not at the next look."""
        if any(each.wanted for each in report.services):
            self._wakeup.set()

    def why(self, service: Service) -> str | None:
        """Why it is to have as many replicas as it is, by the newest look: what its record says was so when that became
        their number. None: it is not looked at."""
        wished = self._said.get(service.id)
        return wished.say if wished is not None and wished.replicas == service.wanted else None

    async def step(self) -> None:
        async with self._store.read() as tx:
            found = [each for each in await tx.services.all() if _is_scaled(each)]
            now = tx.now
        # After the services: what made another control program change one of them is known here before it is judged.
        await self._exchange.hear()
        self._memories = {each.id: self._memories.get(each.id, Memory()) for each in found}
        self._said = {each.id: self._said[each.id] for each in found if each.id in self._said}
        for service in found:
            assert service.spec.scaling is not None
            asked_at, held_at = self._book.asked_at(service.id), self._book.wanted_at(service.id)
            last_s = max(service.spec.scaling.window, service.spec.scaling.panic_window)
            since = max(self._book.since, service.created_at)
            wished = wish(
                Asked(
                    scaling=service.spec.scaling,
                    history=self._book.history(service.id, last_s),
                    since_s=since.timestamp(),
                    current=service.wanted,
                    ready=service.ready,
                    asked_s=asked_at.timestamp() if asked_at is not None else None,
                    held_s=held_at.timestamp() if held_at is not None else None,
                    now=now,
                    start_s=start_s(service),
                    memory=self._memories[service.id],
                    seen=self._book.seen(service.id, last_s),
                    unseen=self._book.unseen(service.id),
                )
            )
            self._memories[service.id], self._said[service.id] = wished.memory, wished
            fewer_unseen = wished.replicas < service.wanted and not self._book.hears_all()
            changes = (wished.replicas, wished.unknown) != (service.wanted, service.unknown)
            if changes and not fewer_unseen:
                await self._write(service, wished)

    async def _write(self, service: Service, wished: Wish) -> None:
        async with self._store.write() as tx:
            fresh = await tx.services.lock(service)
            if fresh is None or (fresh.wanted, fresh.spec.scaling) != (service.wanted, service.spec.scaling):
                return  # somebody has changed it meanwhile: the next look decides anew
            changes: dict[str, Any] = {"unknown": wished.unknown}
            told: list[tuple[str, str]] = []
            if wished.replicas != service.wanted:
                changes |= {"wanted": wished.replicas, "wanted_reason": wished.say}
                told.append(("scaled", f"{service.wanted} to {wished.replicas}: {wished.say}"))
            if wished.unknown is not None and wished.unknown != fresh.unknown:
                told.append(("scaling-blind", wished.unknown))
            await tx.services.change(fresh, changes)
            if told:
                await tx.events.add([("service", service.id, service.name, kind, said) for kind, said in told])


def _is_scaled(service: Service) -> bool:
    """Not before it has served once, nor while it goes from one revision to the next by itself."""
    rollout = service.rollout
    settled = rollout is None or rollout.phase is not Phase.GOING_ON
    return (
        service.state is ServiceState.ACTIVE and service.spec.scaling is not None and service.ever_healthy and settled
    )
