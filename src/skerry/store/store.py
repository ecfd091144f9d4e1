"""Facts and intents of the whole cloud: `async with store.write() as tx` is one transaction, told when committed."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from skerry.clock import Clock
from skerry.store.changes import Changes
from skerry.store.database import Database
from skerry.store.migrations import migrate
from skerry.store.transaction import Transaction


class Store:
    def __init__(self, url: str, clock: Clock, chance: Callable[[int], bytes] = os.urandom) -> None:
        self._database = Database(url)
        self._clock = clock
        self._chance = chance
        self.changes = Changes()

    async def open(self) -> None:
        """Makes or migrates the tables, and the queue that is always there."""
        await migrate(self._database)
        async with self.write() as tx:
            await tx.queues.ensure_default()

    async def close(self) -> None:
        await self._database.close()

    @property
    def has_other_writers(self) -> bool:
        """Whether another control program may write without this one being told."""
        return not self._database.is_sqlite

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        async with self._database.reading() as connection:
            yield Transaction(
                connection, now=self._clock.now(), chance=self._chance, is_sqlite=self._database.is_sqlite
            )

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        """All of the block or none of it; raising rolls back. Watchers are told after the commit."""
        async with self._database.writing() as connection:
            transaction = Transaction(
                connection, now=self._clock.now(), chance=self._chance, is_sqlite=self._database.is_sqlite
            )
            yield transaction
            await transaction.events.flush()
        for record in transaction.written:
            self.changes.publish(record)
        if transaction.told_events:
            self.changes.publish_events()
