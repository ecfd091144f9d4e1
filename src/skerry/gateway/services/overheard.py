"""Follow the KV events of engines that publish them, so that policies forget what was pushed out of a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from skerry.engines import kv_events, zmtp
from skerry.gateway.routing.told import Told
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.replica import Replica
from skerry.gateway.services.service import Service
from skerry.model.service import EngineName

EACH_S: Final = 1.0
AGAIN_S: Final = 10.0
"""After a replica that does not publish, or does not any more: engines may be told not to."""
FOLLOWED_MAX: Final = 256
"""Replicas; of more, what was sent there is all that is known."""


class Overheard:
    def __init__(self, registry: Registry, port_of: Callable[[EngineName], int | None]) -> None:
        self._registry = registry
        self._port_of = port_of
        self._following: dict[Replica, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self.look()
                await asyncio.sleep(EACH_S)
        finally:
            tasks = list(self._following.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Begin with those that are new, leave those that are gone."""
        wanted = {
            replica: (service, port)
            for service in self._registry.all()
            if service.looks_at_prompts
            and len(service.replicas) > 1
            and (port := self._port_of(service.route.engine)) is not None
            for replica in service.replicas.values()
            if not replica.route.asleep
        }
        for replica in [each for each in self._following if each not in wanted]:
            self._following.pop(replica).cancel()
        for replica, (service, port) in wanted.items():
            if replica not in self._following and len(self._following) < FOLLOWED_MAX:
                self._following[replica] = asyncio.create_task(_follow(service, replica, port))


async def _follow(service: Service, replica: Replica, port: int) -> None:
    while True:
        told = replica.told = Told()
        try:
            await _hear(service, replica, told, port)
        except (OSError, EOFError, TimeoutError, ValueError):
            if told.has_heard:  # it was started again, most likely, and has nothing then
                service.policy.cleared(replica.id)
        finally:
            replica.told = None
        await asyncio.sleep(AGAIN_S)


async def _hear(service: Service, replica: Replica, told: Told, port: int) -> None:
    policy = service.policy
    next_number: int | None = None
    async for number, payload in zmtp.follow(replica.host, port, kv_events.TOPIC):
        if next_number is not None and number != next_number:
            told.cleared()  # what was missed may have been anything; what was sent there still holds
        next_number = number + 1
        for event in kv_events.decode(payload, tokens=False):
            if event.kind == "stored":
                told.stored(event.blocks, event.parent, event.block_size)
            elif event.kind == "removed":
                gone = told.removed(event.blocks)
                if gone:
                    policy.removed(replica.id, gone)
            else:
                told.cleared()
                policy.cleared(replica.id)
