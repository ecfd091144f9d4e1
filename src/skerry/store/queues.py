"""Queues in the database: there or not, of the whole cloud and of no project. What waits in them the sandboxes say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exc, func, or_, select, text, update

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import QUEUE_DEFAULT, make_id
from skerry.model.queue import Queue, QueueSpec
from skerry.store.paging import Page, make_token, read_token
from skerry.store.tables import queues

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

QUEUES_LOCK = 0x5CE775
"""PostgreSQL's advisory lock: of one who puts work into a queue and one who deletes it, one must see the other."""


class Queues:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def ensure_default(self) -> None:
        """The one that is always there: made in a new database, and never changed by this."""
        if await self.named(QUEUE_DEFAULT) is None:
            await self.lock()
            if await self.named(QUEUE_DEFAULT) is None:  # another control program may start at the same moment
                await self._insert(QueueSpec(name=QUEUE_DEFAULT))

    async def lock_shared(self) -> None:
        """No queue is deleted until this transaction ends."""
        await self._lock("pg_advisory_xact_lock_shared")

    async def lock(self) -> None:
        """Nobody else makes or deletes one, or puts work into one, until this transaction ends."""
        await self._lock("pg_advisory_xact_lock")

    async def _lock(self, function: str) -> None:
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await self._transaction.connection.execute(text(f"SELECT {function}({QUEUES_LOCK})"))

    async def create(self, spec: QueueSpec) -> Queue:
        try:
            queue = await self._insert(spec)
        except exc.IntegrityError as error:
            raise AlreadyExists(
                f"there is already a queue named {spec.name}", because=str(error), field="name"
            ) from error
        await self._told(queue, "created", "")
        return queue

    async def _insert(self, spec: QueueSpec) -> Queue:
        transaction = self._transaction
        queue = Queue(
            id=make_id("queue", transaction.chance(6)),
            name=spec.name,
            spec=spec,
            created_at=transaction.now,
            updated_at=transaction.now,
        )
        await transaction.connection.execute(queues.insert().values(id=queue.id, name=queue.name, **_written(queue)))
        return queue

    async def all(self) -> list[Queue]:
        rows = await self._transaction.connection.execute(select(queues.c.body).order_by(queues.c.sequence))
        return [Queue.model_validate_json(body) for body in rows.scalars()]

    async def named(self, name: str) -> Queue | None:
        body = await self._transaction.connection.scalar(select(queues.c.body).where(queues.c.name == name))
        return None if body is None else Queue.model_validate_json(body)

    async def find(self, ref: str) -> Queue:
        body = await self._transaction.connection.scalar(
            select(queues.c.body).where(or_(queues.c.id == ref, queues.c.name == ref))
        )
        if body is None:
            raise NotFound(f"there is no queue {ref!r}")
        return Queue.model_validate_json(body)

    async def list(
        self, *, labels: dict[str, str] | None = None, limit: int, page_token: str | None = None
    ) -> Page[Queue]:
        c = queues.c
        rows = await self._transaction.connection.execute(
            select(c.sequence, c.body).where(c.sequence > read_token(page_token)).order_by(c.sequence)
        )
        # All of them are read: there are few, and labels have no column here.
        read = ((row[0], Queue.model_validate_json(row[1])) for row in rows.all())
        found = [each for each in read if (labels or {}).items() <= each[1].spec.labels.items()]
        items = [queue for _, queue in found[:limit]]
        return Page(items, make_token(found[limit - 1][0]) if len(found) > limit else None)

    async def count(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(queues))  # pyright: ignore[reportReturnType]

    async def change(self, was: Queue, spec: QueueSpec, told: str) -> Queue | None:
        """None when somebody else has changed it meanwhile."""
        changed = was.model_copy(update={"spec": spec, "version": was.version + 1, "updated_at": self._transaction.now})
        c = queues.c
        done = await self._transaction.connection.execute(
            update(queues).where(c.id == was.id, c.version == was.version).values(**_written(changed))
        )
        if done.rowcount == 0:
            return None
        await self._told(changed, "updated", told)
        return changed

    async def delete(self, queue: Queue) -> None:
        await self._transaction.connection.execute(delete(queues).where(queues.c.id == queue.id))
        await self._told(queue, "deleted", "")

    async def _told(self, queue: Queue, kind: str, message: str) -> None:
        await self._transaction.events.add([("queue", queue.id, queue.name, kind, message)])
        self._transaction.written.append(queue)


def _written(queue: Queue) -> Mapping[str, Any]:
    return {"version": queue.version, "body": queue.model_dump_json()}
