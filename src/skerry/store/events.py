"""Events in the database: one line of history each, numbered in the order in which they became visible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, func, select, text

from skerry.model.event import Event
from skerry.store.tables import events

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

NUMBERING_LOCK = 0x5CE772
MESSAGE_CHARACTERS_MAX = 2000

_INSERT = events.insert()

Told = tuple[str, str, str, str, str]
"""(noun, target id, target name, kind, message)"""


class Events:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._told: list[Told] = []

    async def add(self, told: Sequence[Told]) -> None:
        """Kept until the transaction ends: see `flush`."""
        self._told.extend(told)

    async def flush(self) -> None:
        """Written last, so that the lock below is held for two statements only."""
        if not self._told:
            return
        transaction = self._transaction
        if not transaction.is_sqlite:
            # Numbers are drawn before commit. Without this one a watcher who has seen 7 could miss a late 6.
            await transaction.connection.execute(text(f"SELECT pg_advisory_xact_lock({NUMBERING_LOCK})"))
        at_s = transaction.now.timestamp()
        rows = [
            {
                "project": transaction.project,
                "at": at_s,
                "noun": noun,
                "target": target,
                "name": name,
                "kind": kind,
                "message": message[:MESSAGE_CHARACTERS_MAX],
            }
            for noun, target, name, kind, message in self._told
        ]
        await transaction.connection.execute(_INSERT, rows)
        self._told.clear()
        transaction.told_events = True

    async def list(
        self,
        project: str,
        *,
        target: str | None = None,
        noun: str | None = None,
        after: int = 0,
        limit: int,
    ) -> list[Event]:
        c = events.c
        where: list[ColumnElement[bool]] = [c.project == project, c.sequence > after]
        if target is not None:
            where.append(c.target == target)
        if noun is not None:
            where.append(c.noun == noun)
        rows = await self._transaction.connection.execute(
            select(c.sequence, c.at, c.project, c.noun, c.target, c.name, c.kind, c.message)
            .where(*where)
            .order_by(c.sequence)
            .limit(limit)
        )
        return [
            Event(
                sequence=row[0],
                at=datetime.fromtimestamp(row[1], UTC),
                project=row[2],
                noun=row[3],
                target=row[4],
                name=row[5],
                kind=row[6],
                message=row[7],
            )
            for row in rows.all()
        ]

    async def newest(self) -> int:
        return await self._transaction.connection.scalar(select(func.coalesce(func.max(events.c.sequence), 0)))  # pyright: ignore[reportReturnType]
