"""Several control programs over one database, each with gateways of its own: what one is told of traffic, all know.

Without it the one that no gateway talks to would take a busy service for one that nobody asks for, and a replica that
drains for one that nobody uses.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from skerry.control.traffic_book import TrafficBook
from skerry.model.traffic import TrafficReport
from skerry.store.store import Store

OVERLAP_S = 5.0
"""Looked back beyond what was read last: what was written before it may have been committed after it."""


class TrafficExchange:
    def __init__(self, store: Store, book: TrafficBook) -> None:
        self._store = store
        self._book = book
        self._name = secrets.token_hex(8)
        self._heard: dict[int, datetime] = {}
        """Reports that were read, by their numbers."""
        self._until: datetime | None = None

    async def tell(self, report: TrafficReport) -> None:
        """Written before it is noted: once it has led to a decision here, whoever reads the decision can read it."""
        if self._store.has_other_writers:
            async with self._store.write() as tx:
                await tx.traffic.tell(self._name, report)
        self._book.note(report)

    async def hear(self) -> None:
        """What others were told up to now."""
        if not self._store.has_other_writers:
            return
        async with self._store.read() as tx:
            until = tx.now
            since = max(self._book.since, (self._until or until) - timedelta(seconds=OVERLAP_S))
            found = await tx.traffic.of_others(self._name, since)
        self._heard = {number: at for number, at in self._heard.items() if at >= since}
        self._until = until
        for number, at, report in found:
            if number not in self._heard:
                self._heard[number] = at
                self._book.note(report, at)
