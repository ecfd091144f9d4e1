"""Stays in the database: each time a sandbox held a place, from when to when, and how much it held.

Written in the transaction that begins or ends the stay, by whoever moves the sandbox, so that they cannot drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, case, func, select, update

from skerry.model.resources import GPU_MILLI
from skerry.model.sandbox import GIB, HOLDS_PLACE, Sandbox
from skerry.model.usage import By, Used
from skerry.store.tables import sandboxes, stays

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

ASTRAY_MAX = 100
USED_MAX = 10_000
"""Names in one answer, the largest."""
_INSERT = stays.insert()
_END = (
    update(stays).where(stays.c.sandbox == bindparam("of"), stays.c.ended_s.is_(None)).values(ended_s=bindparam("at_s"))
)


class Stays:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def follow(self, was: Sandbox | None, now: Sandbox) -> None:
        """What the change from one to the other begins and ends; nothing for most."""
        before, after = None if was is None else held(was), held(now)
        if before == after:
            return
        at_s = self._transaction.now.timestamp()
        if before is not None:
            await self._transaction.connection.execute(_END, {"of": now.id, "at_s": at_s})
        if after is not None:
            await self.begin([after])

    async def begin(self, made: Sequence[dict[str, Any]], at: datetime | None = None) -> None:
        at_s = (at or self._transaction.now).timestamp()
        await self._transaction.connection.execute(_INSERT, [{**stay, "began_s": at_s} for stay in made])

    async def evict(self, sandbox: str) -> None:
        """It is asked to give up its place for others."""
        going_on = (stays.c.sandbox == sandbox) & stays.c.ended_s.is_(None)
        asked = update(stays).where(going_on).values(evicted_s=self._transaction.now.timestamp())
        await self._transaction.connection.execute(asked)

    async def evicted(self, since_s: float) -> dict[str, int]:
        """Queue -> how many have been asked to make room for others since then."""
        c = stays.c
        query = select(c.queue, func.count()).where(c.evicted_s > since_s).group_by(c.queue)
        return {row[0]: row[1] for row in (await self._transaction.connection.execute(query)).all()}

    async def astray(self) -> list[str]:
        """Places that nobody pays for, and stays that go on without a place: there are none, or it is our error."""
        c, of = stays.c, sandboxes.c
        placed = of.state.in_(sorted(state.value for state in HOLDS_PLACE)) & of.node.is_not(None)
        same = [getattr(c, name) == getattr(of, name) for name in ("node", "queue", "cpu", "memory_bytes", "gpu_milli")]
        going_on = (c.sandbox == of.id) & c.ended_s.is_(None)
        unpaid = select(of.id).outerjoin(stays, and_(going_on, *same)).where(placed, c.sandbox.is_(None))
        endless = select(c.sandbox).outerjoin(sandboxes, going_on & placed).where(c.ended_s.is_(None), of.id.is_(None))
        connection = self._transaction.connection
        found = [
            f"the use of sandbox {each} is not written down as it is"
            for each in (await connection.execute(unpaid.limit(ASTRAY_MAX))).scalars()
        ]
        return found + [
            f"a use of sandbox {each} goes on without a place"
            for each in (await connection.execute(endless.limit(ASTRAY_MAX))).scalars()
        ]

    async def used(
        self, by: By, *, since: datetime, until: datetime, project: str | None = None, job: str | None = None
    ) -> list[Used]:
        """Of each, the largest first. What lasts yet is counted up to `until`."""
        c = stays.c
        since_s, until_s = since.timestamp(), until.timestamp()
        hours = _seconds_between(since_s, until_s) / 3600.0
        name = {By.PROJECT: c.project, By.USER: c.owner, By.QUEUE: c.queue, By.JOB: func.coalesce(c.job, "")}[by]
        core_hours = func.sum(hours * c.cpu)
        query = (
            select(
                name,
                core_hours,
                func.sum(hours * c.memory_bytes) / GIB,
                func.sum(hours * c.gpu_milli) / GPU_MILLI,
                func.count(),
            )
            .where(*_within(since_s, until_s))
            .group_by(name)
            .order_by(core_hours.desc(), name)
            .limit(USED_MAX)
        )
        if project is not None:
            query = query.where(c.project == project)
        if job is not None:
            query = query.where(c.job == job)
        rows = (await self._transaction.connection.execute(query)).all()
        return [Used(name=row[0], core_hours=row[1], gib_hours=row[2], gpu_hours=row[3], stays=row[4]) for row in rows]

    async def of_queues(self, since_s: float, until_s: float) -> list[InQueue]:
        """What each user had of each queue in this time."""
        c = stays.c
        seconds = _seconds_between(since_s, until_s)
        query = (
            select(
                c.queue,
                c.project,
                c.owner,
                func.sum(seconds * c.cpu),
                func.sum(seconds * c.memory_bytes),
                func.sum(seconds * c.gpu_milli),
            )
            .where(*_within(since_s, until_s))
            .group_by(c.queue, c.project, c.owner)
        )
        return [InQueue(*row) for row in (await self._transaction.connection.execute(query)).all()]


class InQueue(NamedTuple):
    queue: str
    project: str
    owner: str
    core_s: float
    byte_s: float
    gpu_milli_s: float


def _seconds_between(since_s: float, until_s: float) -> ColumnElement[float]:
    """Of a stay, those of this time; what lasts yet is counted up to its end."""
    c = stays.c
    end = case((c.ended_s.is_(None), until_s), (c.ended_s > until_s, until_s), else_=c.ended_s)
    return end - case((c.began_s < since_s, since_s), else_=c.began_s)


def _within(since_s: float, until_s: float) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    c = stays.c
    return c.began_s < until_s, c.ended_s.is_(None) | (c.ended_s > since_s)


def held(sandbox: Sandbox) -> dict[str, Any] | None:
    """What it holds of which node, and whose use that is; None: nothing."""
    if sandbox.state not in HOLDS_PLACE or sandbox.node is None:
        return None
    spec = sandbox.spec
    return {
        "sandbox": sandbox.id,
        "node": sandbox.node,
        "project": sandbox.project,
        "owner": sandbox.owner,
        "queue": spec.queue,
        "job": sandbox.job,
        "cpu": spec.cpu,
        "memory_bytes": spec.memory,
        "gpu_milli": round(spec.gpu * GPU_MILLI),
    }
