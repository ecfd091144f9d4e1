"""Queues, for programs: make one, see what is in it, change its rules, delete it. For asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from skerry.client import flows, parse
from skerry.client.calls import queues as calls
from skerry.client.calls.queues import QueueOptions

if TYPE_CHECKING:
    from skerry.client.transport_async import AsyncTransport
    from skerry.model.queue import Queue, QueueWithUse


class AsyncQueues:
    """Of the whole cloud, and not of a project. Work chooses one by its spec, `queue="lab"`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        return await self._transport.send(calls.create(name, options))

    async def get(self, ref: str) -> QueueWithUse:
        return await self._transport.send(calls.get(ref))

    async def list(self, labels: Mapping[str, str] | None = None) -> list[QueueWithUse]:
        items = await self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.queue_with_use(item) for item in items]

    async def update(self, ref: str, **options: Unpack[QueueOptions]) -> Queue:
        """In force at once, also for what waits already. What is not given stays."""
        return await self._transport.send(calls.update(ref, options))

    async def delete(self, ref: str) -> None:
        """Raises InUse while there is work in it."""
        await self._transport.json(calls.delete(ref))
