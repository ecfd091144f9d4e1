"""Jobs in the database. Their tasks have a table of their own, and rows there only once something is known of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import Boolean, ColumnElement, Table, delete, func, literal_column, select, update

from skerry.errors import Conflict, NotFound
from skerry.model.job import JOB_MOVES, Job, JobState
from skerry.model.moves import Moves
from skerry.model.sandbox import models_named
from skerry.store.paging import Page
from skerry.store.records import CANDIDATES_NAMED_MAX, Records
from skerry.store.statements import Statements
from skerry.store.tables import GOING_ON, NETWORK, jobs, notices, tasks

_GOING_ON: ColumnElement[bool] = literal_column(GOING_ON, Boolean)
_NETWORK: ColumnElement[bool] = literal_column(NETWORK, Boolean)


class Jobs(Records[Job]):
    noun: ClassVar[str] = "job"
    prefix: ClassVar[str] = "job"
    table: ClassVar[Table] = jobs
    statements: ClassVar[Statements] = Statements(jobs, ("id", "state"))
    moves: ClassVar[Moves[Any]] = JOB_MOVES
    model = Job

    def index(self, record: Job) -> dict[str, Any]:
        spec = record.spec
        secrets = [use.name for use in spec.secrets] + [each.secret for each in spec.notify if each.secret is not None]
        return {
            "name": record.name,
            "queue": spec.queue,
            "owner": record.owner,
            "image_name": spec.image,
            "volumes": json.dumps(sorted(record.volumes.values())) if record.volumes else None,
            "secrets": json.dumps(secrets) if secrets else None,
            "models": json.dumps(named) if (named := models_named(spec.mounts)) else None,
            "network": record.network,
            "labels": spec.labels,
        }

    def name_of(self, record: Job) -> str:
        return record.name

    def at_rest(self, record: Job) -> bool | None:
        return None  # a job is its own operation

    def _choose(self, ref: str, found: Sequence[Job]) -> Job:
        """By name the newest: only that one can still be going on."""
        for job in found:
            if ref in (job.id, job.name):
                return job
        if len(found) > 1:
            names = ", ".join(f"{job.id} ({job.name})" for job in found[:CANDIDATES_NAMED_MAX])
            raise Conflict(f"{ref!r} begins more than one job id: {names}")
        if found:
            return found[0]
        raise NotFound(f"there is no job {ref!r}")

    async def find(self, ref: str, project: str) -> Job:
        found = await super().find(ref, project)
        c = self.table.c
        if await self._transaction.connection.scalar(select(c.forgotten).where(c.id == found.id)):
            raise NotFound(f"job {ref} was deleted")
        return found

    async def list(
        self,
        project: str,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        labels: dict[str, str] | None = None,
        name: str | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Job]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project, c.forgotten.is_(False)]
        if state is not None:
            where.append(c.state == state.value)
        if queue is not None:
            where.append(c.queue == queue)
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        for key, value in (labels or {}).items():
            where.append(c.labels[key].as_string() == value)
        return await self._page(where, limit, page_token)

    async def going_on(self) -> list[str]:
        """Ids of those that are not final, and of those that have still something to be taken down."""
        c = self.table.c
        rows = await self._transaction.connection.execute(select(c.id).where(_GOING_ON | _NETWORK).order_by(c.sequence))
        return [row[0] for row in rows.all()]

    async def count_going_on(self, *, queue: str | None = None) -> int:
        query = select(func.count()).select_from(self.table).where(_GOING_ON)
        if queue is not None:
            query = query.where(self.table.c.queue == queue)
        return await self._transaction.connection.scalar(query)  # pyright: ignore[reportReturnType]

    async def tasks_made(self, job_id: str) -> int:
        """How many of its tasks, in the order of its indices, have been looked at: those after have no row, but where
        one was cancelled."""
        c = self.table.c
        return await self._transaction.connection.scalar(select(c.tasks_made).where(c.id == job_id)) or 0

    async def set_tasks_made(self, job_id: str, was: int, made: int) -> bool:
        """False when somebody else was there first."""
        c = self.table.c
        done = await self._transaction.connection.execute(
            update(self.table).where(c.id == job_id, c.tasks_made == was).values(tasks_made=made)
        )
        return done.rowcount == 1

    async def users_of(self, column: str, wanted: str) -> list[str]:
        """Names of those going on whose `volumes`, `secrets` or `models` have this one."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name, c[column]).where(_GOING_ON, c[column].is_not(None)).order_by(c.sequence)
        )
        return [row[0] for row in rows.all() if wanted in json.loads(row[1])]

    async def users_of_image(self, name: str) -> list[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name).where(_GOING_ON, c.image_name == name).order_by(c.sequence)
        )
        return [row[0] for row in rows.all()]

    # The end

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Nobody sees them any more; what machines keep of them can go, and then the rows."""
        c = self.table.c
        await self._transaction.connection.execute(update(self.table).where(c.id.in_(job_ids)).values(forgotten=True))

    async def forgotten(self, limit: int) -> list[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.id).where(c.forgotten.is_(True)).order_by(c.sequence).limit(limit)
        )
        return [row[0] for row in rows.all()]

    async def ended(self) -> list[tuple[str, float, int]]:
        """(id, when it ended, rows of tasks) of all that are final, the newest first."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.id, c.updated_at, c.tasks_made)
            .where(~_GOING_ON, c.forgotten.is_(False))
            .order_by(c.updated_at.desc(), c.sequence.desc())
        )
        return [(row[0], row[1], row[2]) for row in rows.all()]

    async def delete(self, job_ids: Sequence[str]) -> None:
        connection = self._transaction.connection
        await connection.execute(delete(notices).where(notices.c.job.in_(job_ids)))
        await connection.execute(delete(tasks).where(tasks.c.job.in_(job_ids)))
        await connection.execute(delete(self.table).where(self.table.c.id.in_(job_ids)))
