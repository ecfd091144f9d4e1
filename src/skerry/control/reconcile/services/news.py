"""Which services something has just happened to, as this process's writes tell it. A hint: what it misses is found by
the next look at everything."""

from __future__ import annotations

from skerry.model.sandbox import Sandbox
from skerry.model.service import Service
from skerry.store.changes import Record


class ServiceNews:
    def __init__(self) -> None:
        self._ids: set[str] = set()

    def about(self, record: Record) -> None:
        """Told of every commit."""
        if isinstance(record, Sandbox) and record.replica is not None:
            self._ids.add(record.replica.service)
        elif isinstance(record, Service):
            self._ids.add(record.id)

    def again(self, service: str) -> None:
        self._ids.add(service)

    def take(self) -> set[str]:
        """Since the last time."""
        taken, self._ids = self._ids, set()
        return taken
