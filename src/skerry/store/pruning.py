"""What the database forgets, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table, delete, func, select

from skerry.model.operation import OperationState
from skerry.store.service_tables import services
from skerry.store.tables import checkpoints, events, images, models, operations, sandboxes, stays, volumes

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

TOMBSTONE_S_MAX = 7 * 86_400.0
"""A deleted record proves that its remains on a machine may go: kept longer than any machine is likely to be away."""
TOMBSTONES_MAX = 10_000
OPERATIONS_MAX = 20_000
EVENTS_MAX = 100_000
STAY_S_MAX = 400 * 86_400.0
"""A year can be told whole, and compared with the month before it."""
STAYS_MAX = 1_000_000


class Pruning:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def tombstones(self) -> None:
        for table in (sandboxes, checkpoints, images, volumes, models, services):
            await self._tombstones(table)

    async def _tombstones(self, table: Table) -> None:
        c = table.c
        deleted = c.state == "deleted"
        oldest = self._transaction.now.timestamp() - TOMBSTONE_S_MAX
        newest_first = select(c.sequence).where(deleted).order_by(c.updated_at.desc(), c.sequence.desc())
        beyond = newest_first.offset(TOMBSTONES_MAX).limit(1_000_000)
        gone = delete(table).where(deleted, (c.updated_at < oldest) | c.sequence.in_(beyond.scalar_subquery()))
        await self._transaction.connection.execute(gone)

    async def operations(self) -> None:
        """The oldest ended ones; one that runs is never forgotten."""
        c = operations.c
        newest = await self._newest(operations)
        await self._transaction.connection.execute(
            delete(operations).where(c.sequence <= newest - OPERATIONS_MAX, c.state != OperationState.RUNNING.value)
        )

    async def events(self) -> None:
        newest = await self._newest(events)
        await self._transaction.connection.execute(delete(events).where(events.c.sequence <= newest - EVENTS_MAX))

    async def stays(self) -> None:
        """The oldest that have ended; usage before that is not told any more."""
        c = stays.c
        newest = await self._newest(stays)
        oldest_s = self._transaction.now.timestamp() - STAY_S_MAX
        gone = delete(stays).where(c.ended_s.is_not(None), (c.ended_s < oldest_s) | (c.sequence <= newest - STAYS_MAX))
        await self._transaction.connection.execute(gone)

    async def _newest(self, table: Table) -> int:
        return await self._transaction.connection.scalar(select(func.coalesce(func.max(table.c.sequence), 0)))  # pyright: ignore[reportReturnType]
