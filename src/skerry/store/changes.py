"""What this process has just written, told to whoever waits for it here. A hint only: nothing depends on it.

Waiters read the database again in any case, so a second control program's writes are seen a moment later by polling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager

from skerry.model.checkpoint import Checkpoint
from skerry.model.image import Image
from skerry.model.job import Job, Task
from skerry.model.node import Node
from skerry.model.operation import Operation
from skerry.model.placed import Placed
from skerry.model.queue import Queue
from skerry.model.sandbox import Sandbox
from skerry.model.service import Service
from skerry.model.volume import Volume
from skerry.model.weights import Model

Record = Sandbox | Checkpoint | Image | Volume | Model | Operation | Node | Queue | Job | Task | Placed | Service

EVERY_EVENT = "*events"
"""The topic of all events; a record's own topic is its id."""


class Changes:
    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listeners: list[Callable[[Record], None]] = []

    def listen(self, listener: Callable[[Record], None]) -> None:
        """Called with every record after its commit; must be quick and must not raise."""
        self._listeners.append(listener)

    def publish(self, record: Record) -> None:
        self._wake(record.id)
        for listener in self._listeners:
            listener(record)

    def publish_events(self) -> None:
        self._wake(EVERY_EVENT)

    def _wake(self, topic: str) -> None:
        for waiting in self._waiting.get(topic, ()):
            waiting.set()

    @contextmanager
    def watching(self, *topics: str) -> Generator[asyncio.Event]:
        """Set on every change of any of them from now on. Clear it *before* reading, so that no change is missed."""
        changed = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(changed)
        try:
            yield changed
        finally:
            for topic in topics:
                waiting = self._waiting[topic]
                waiting.discard(changed)
                if not waiting:
                    del self._waiting[topic]
