"""Notices in the database: written with what they tell of, and gone once somebody has got them or nobody ever will."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from skerry.model.identity import make_id
from skerry.model.job import Job, Task, When
from skerry.model.notice import ENDS, Notice, body_of, wanted
from skerry.store.tables import notices

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

NOTICES_MAX = 100
"""Of one job that wait to be sent. Beyond, only its end is told: a hundred thousand retries are no news."""


class Notices:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, job: Job, when: When, task: Task | None = None) -> None:
        """For each of those that want to know."""
        tx = self._transaction
        numbers = list(wanted(job, when))
        if not numbers or (when not in ENDS and await self._count(job.id) >= NOTICES_MAX):
            return
        rows: list[dict[str, object]] = []
        for number in numbers:
            notice_id = make_id("notice", tx.chance(6))
            notice = Notice(
                id=notice_id,
                job=job.id,
                name=job.name,
                number=number,
                when=when,
                body=body_of(job, number, notice_id, when, tx.now, task),
                due_at=tx.now,
                created_at=tx.now,
            )
            rows.append(
                {"id": notice.id, "job": job.id, "due_at": tx.now.timestamp(), "body": notice.model_dump_json()}
            )
        await tx.connection.execute(notices.insert(), rows)

    async def _count(self, job: str) -> int:
        counted = select(func.count()).select_from(notices).where(notices.c.job == job)
        return await self._transaction.connection.scalar(counted) or 0

    async def due(self, limit: int, excluding: Sequence[str]) -> list[Notice]:
        c = notices.c
        rows = await self._transaction.connection.execute(
            select(c.body)
            .where(c.due_at <= self._transaction.now.timestamp(), c.id.not_in(excluding))
            .order_by(c.due_at)
            .limit(limit)
        )
        return [Notice.model_validate_json(body) for body in rows.scalars()]

    async def put_off(self, notice: Notice) -> None:
        """Until its `due_at`."""
        c = notices.c
        await self._transaction.connection.execute(
            update(notices)
            .where(c.id == notice.id)
            .values(due_at=notice.due_at.timestamp(), body=notice.model_dump_json())
        )

    async def delete(self, notice: Notice) -> None:
        await self._transaction.connection.execute(delete(notices).where(notices.c.id == notice.id))
