"""Ask machines each second how busy replicas are, of services that are scaled by that: their cores, their accelerators.

Only replicas that serve are looked at: one that starts is busy with its model, and more of them would not help it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.traffic_book import TrafficBook
from skerry.errors import SkerryError
from skerry.model.sandbox import Sandbox
from skerry.model.scaling import OF_MACHINES, Signal
from skerry.model.service import Service, ServiceState
from skerry.model.serving import is_serving
from skerry.model.stats import Work, Works
from skerry.store.store import Store


class LookAtBusy:
    moves: ClassVar[frozenset[tuple[ServiceState, ServiceState]]] = frozenset()

    def __init__(self, store: Store, agent: AgentClient, book: TrafficBook) -> None:
        self._store = store
        self._agent = agent
        self._book = book
        self._before: dict[str, tuple[datetime, float]] = {}
        """Of each sandbox: when it had used how many seconds of processors."""

    async def step(self) -> None:
        async with self._store.read() as tx:
            found = [each for each in await tx.services.all() if signals_of(each)]
            serving = {
                each.id: [box for box in await tx.sandboxes.of_service(each.id) if is_serving(box, tx.now)]
                for each in found
            }
        ids = [box.id for boxes in serving.values() for box in boxes]
        if not ids:
            self._before.clear()
            return
        try:
            told = await self._agent.busy(ids)
        except SkerryError:
            return  # what is not known is not written down: nothing is decided by it
        for service in found:
            self._note(service, serving[service.id], told)
        self._before = {box: (told.at, work.cpu_s) for box, work in told.of.items()}

    def _note(self, service: Service, boxes: Sequence[Sandbox], told: Works) -> None:
        signals = signals_of(service)
        if Signal.CPU in signals:
            self._total(service, Signal.CPU, boxes, [self._cores(box.id, told) for box in boxes])
        if Signal.GPU in signals:
            works = [told.of.get(box.id) for box in boxes]
            self._total(service, Signal.GPU, boxes, [_gpu(work) for work in works], told.gpu_unknown)

    def _total(
        self,
        service: Service,
        signal: Signal,
        boxes: Sequence[Sandbox],
        shares: Sequence[float | None],
        why: str | None = None,
    ) -> None:
        """Of all that serve: those of which nothing is known are taken to be like the others."""
        known = [share for share in shares if share is not None]
        if known:
            self._book.saw(service.id, signal.value, sum(known) / len(known) * len(boxes))
        elif why is not None:
            self._book.does_not_see(service.id, signal.value, why)

    def _cores(self, box: str, told: Works) -> float | None:
        """In use since the last look."""
        work, before = told.of.get(box), self._before.get(box)
        if work is None or before is None:
            return None
        passed_s = (told.at - before[0]).total_seconds()
        used_s = work.cpu_s - before[1]
        return used_s / passed_s if passed_s > 0 and used_s >= 0 else None  # less than before: it was started again


def _gpu(work: Work | None) -> float | None:
    return None if work is None else work.gpu


def signals_of(service: Service) -> set[Signal]:
    """Which of those that machines tell it is scaled by."""
    scaling = service.spec.scaling
    if scaling is None or service.state is not ServiceState.ACTIVE:
        return set()
    return {each.signal for each in scaling.targets} & OF_MACHINES
