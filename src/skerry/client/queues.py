"""Queues, for programs: make one, see what is in it, change its rules, delete it. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from skerry.client import flows, parse
from skerry.client.calls import queues as calls
from skerry.client.calls.queues import QueueOptions

if TYPE_CHECKING:
    from skerry.client.transport import Transport
    from skerry.model.queue import Queue, QueueWithUse


class Queues:
    """Of the whole cloud, and not of a project. Work chooses one by its spec, `queue="lab"`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        return self._transport.send(calls.create(name, options))

    def get(self, ref: str) -> QueueWithUse:
        return self._transport.send(calls.get(ref))

    def list(self, labels: Mapping[str, str] | None = None) -> list[QueueWithUse]:
        items = self._transport.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
        return [parse.queue_with_use(item) for item in items]

    def update(self, ref: str, **options: Unpack[QueueOptions]) -> Queue:
        """In force at once, also for what waits already. What is not given stays."""
        return self._transport.send(calls.update(ref, options))

    def delete(self, ref: str) -> None:
        """Raises InUse while there is work in it."""
        self._transport.json(calls.delete(ref))
