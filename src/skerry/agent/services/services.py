"""The services of all sandboxes of this machine: a crew for each that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from skerry.agent.logs import OutputLogs
from skerry.agent.services.crew import Crew, Means
from skerry.agent.services.kept import KeptServices
from skerry.agent.services.pulse import GiveUp, Pulse, looked_at
from skerry.errors import Conflict, NotFound
from skerry.model.guest_service import Statuses
from skerry.model.order import Order


class Services:
    """Sandboxes call `prepare` to `remove` as a sandbox lives, alone with it; the rest is for whoever uses one."""

    def __init__(self, means: Means, logs: OutputLogs, *, kept_health: KeptServices, give_up: GiveUp) -> None:
        self._means = means
        self._pulse_means = replace(means, kept=kept_health)
        self._give_up = give_up
        self._logs = logs
        self._crews: dict[str, Crew] = {}
        self._pulses: dict[str, Pulse] = {}

    # A sandbox's life

    def prepare(self, sandbox_id: str) -> None:
        """It is about to start anew: what is known of its services is of another life, and must not outlive it."""
        self._means.kept.remove(sandbox_id)
        self._pulse_means.kept.remove(sandbox_id)

    def begin(self, order: Order) -> None:
        crew = self._crews[order.sandbox_id] = Crew(order.sandbox_id, order.spec.services, self._means)
        crew.begin()
        if pulse := self._pulse(order):
            pulse.begin()

    def _pulse(self, order: Order) -> Pulse | None:
        spec = looked_at(order.spec)
        if spec is None:
            return None
        made = self._pulses[order.sandbox_id] = Pulse(order.sandbox_id, spec, self._pulse_means, self._give_up)
        return made

    async def adopt(self, order: Order, *, resting: bool) -> None:
        crew = self._crews[order.sandbox_id] = Crew(order.sandbox_id, order.spec.services, self._means)
        await crew.adopt(resting=resting)
        if pulse := self._pulse(order):
            pulse.adopt(resting=resting)

    async def apply(self, order: Order, *, resting: bool) -> None:
        if crew := self._crews.get(order.sandbox_id):
            crew.apply(order.spec.services)
            await self._apply_health(order, resting=resting)

    async def _apply_health(self, order: Order, *, resting: bool) -> None:
        before = self._pulses.get(order.sandbox_id)
        if (before.spec if before is not None else None) == looked_at(order.spec):
            return
        await self._still(order.sandbox_id)
        if (pulse := self._pulse(order)) and not resting:
            pulse.begin()

    async def rest(self, sandbox_id: str) -> None:
        if crew := self._crews.get(sandbox_id):
            await crew.rest()
        if pulse := self._pulses.get(sandbox_id):
            await pulse.rest()

    def resume(self, sandbox_id: str) -> None:
        if crew := self._crews.get(sandbox_id):
            crew.resume()
        if pulse := self._pulses.get(sandbox_id):
            pulse.resume()

    async def _still(self, sandbox_id: str) -> None:
        if pulse := self._pulses.pop(sandbox_id, None):
            await pulse.rest()

    async def halt(self, sandbox_id: str, grace_s: float) -> None:
        """It is about to be stopped; what is left when the grace is over dies with it."""
        await self._still(sandbox_id)
        if crew := self._crews.pop(sandbox_id, None):
            await crew.halt(grace_s)

    async def forget(self, sandbox_id: str) -> None:
        """It has no processes any more."""
        await self._still(sandbox_id)
        if crew := self._crews.pop(sandbox_id, None):
            await crew.close(following=False)

    async def remove(self, sandbox_id: str) -> None:
        """It is deleted."""
        self._means.kept.remove(sandbox_id)
        self._pulse_means.kept.remove(sandbox_id)
        await self._logs.remove(sandbox_id)

    async def close(self) -> None:
        """Let go; services run on."""
        await asyncio.gather(*(crew.close() for crew in self._crews.values()))
        await asyncio.gather(*(pulse.rest() for pulse in self._pulses.values()))
        await self._logs.close()

    # Their use

    def statuses(self, sandbox_id: str) -> Statuses:
        crew = self._crews.get(sandbox_id)
        return crew.statuses() if crew is not None else ()

    def told(self, sandbox_id: str) -> dict[str, Any]:
        """The fields of a report that are ours."""
        pulse = self._pulses.get(sandbox_id)
        return {"services": self.statuses(sandbox_id), "health": pulse.status if pulse is not None else None}

    async def ready(self, sandbox_id: str, port: int) -> bool:
        """Somebody is about to connect to this port of a sandbox that is awake. Starts the service whose it is, if it
        does not run; says whether somebody will listen there who may not yet."""
        crew = self._crews.get(sandbox_id)
        return crew is not None and crew.want(port)

    async def start(self, sandbox_id: str, name: str) -> None:
        """And whatever it needs. Raises NotFound, Conflict when the sandbox does not run."""
        await self._crew(sandbox_id).start(name)

    async def stop(self, sandbox_id: str, name: str) -> None:
        await self._crew(sandbox_id).stop(name)

    async def restart(self, sandbox_id: str, name: str) -> None:
        await self._crew(sandbox_id).restart(name)

    def read_log(self, order: Order, name: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        if name not in order.spec.services:
            raise NotFound(f"this sandbox has no service {name[:60]}")
        return self._logs.of(log_key(order.sandbox_id, name)).read(follow=follow, tail=tail)

    def _crew(self, sandbox_id: str) -> Crew:
        crew = self._crews.get(sandbox_id)
        if crew is None:
            raise Conflict("the sandbox does not run; start it first")
        return crew


def log_key(sandbox_id: str, name: str) -> str:
    return f"{sandbox_id}/{name}"
