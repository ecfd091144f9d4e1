"""Services in the database, and the revisions of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import Boolean, ColumnElement, Table, delete, func, literal_column, select, text

from skerry.model.moves import Moves
from skerry.model.sandbox import models_named
from skerry.model.service import REVISIONS_KEPT, SERVICE_FINAL, SERVICE_MOVES, Revision, Service, ServiceState
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.service_tables import HERE, service_revisions, services
from skerry.store.statements import Statements

MODELS_LOCK = 0x5CE77B
"""PostgreSQL's advisory lock: two services that are made at once must not answer to the same model."""
_HERE: ColumnElement[bool] = literal_column(HERE, Boolean)
_REVISIONS = service_revisions.c


class Services(Records[Service]):
    noun: ClassVar[str] = "service"
    prefix: ClassVar[str] = "svc"
    table: ClassVar[Table] = services
    statements: ClassVar[Statements] = Statements(services, ("id", "state"))
    moves: ClassVar[Moves[Any]] = SERVICE_MOVES
    model = Service

    def index(self, record: Service) -> dict[str, Any]:
        spec = record.spec
        return {
            "name": record.name,
            "image_name": spec.image,
            "volumes": json.dumps(sorted(record.volumes.values())) if record.volumes else None,
            "secrets": json.dumps([use.name for use in spec.secrets]) if spec.secrets else None,
            "labels": spec.labels,
        }

    def name_of(self, record: Service) -> str:
        return record.name

    def at_rest(self, record: Service) -> bool | None:
        return True if record.state in SERVICE_FINAL else None

    async def lock_models(self) -> None:
        """Nobody else gives a service models until this transaction ends."""
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await self._transaction.connection.execute(text(f"SELECT pg_advisory_xact_lock({MODELS_LOCK})"))

    async def list(
        self,
        project: str,
        *,
        labels: dict[str, str] | None = None,
        name: str | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Service]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project, c.state != ServiceState.DELETED.value]
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        for key, value in (labels or {}).items():
            where.append(c.labels[key].as_string() == value)
        return await self._page(where, limit, page_token)

    async def all(self) -> list[Service]:
        """That are not deleted."""
        c = self.table.c
        return await self._many(select(c.body).where(c.state != ServiceState.DELETED.value).order_by(c.sequence))

    async def names(self, project: str) -> set[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(select(c.name).where(_HERE, c.project == project))
        return {row[0] for row in rows.all()}

    async def count_living(self) -> int:
        counted = select(func.count()).select_from(self.table).where(self.table.c.state != ServiceState.DELETED.value)
        return await self._transaction.connection.scalar(counted) or 0

    async def users_of(self, column: str, wanted: str) -> list[str]:
        """Names of those whose `volumes` or `secrets` have this one."""
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name, c[column]).where(_HERE, c[column].is_not(None)).order_by(c.sequence)
        )
        return [row[0] for row in rows.all() if wanted in json.loads(row[1])]

    async def users_of_image(self, name: str) -> list[str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(
            select(c.name).where(_HERE, c.image_name == name).order_by(c.sequence)
        )
        return [row[0] for row in rows.all()]

    async def users_of_model(self, name: str, source: str) -> list[str]:
        """Names of those that serve it, mount it, or have it as an adapter."""
        wanted = {source, f"model://{name}"}
        found: list[str] = []
        for service in await self.all():
            spec = service.spec
            if name in models_named(spec.mounts) or wanted & {spec.model, *spec.adapters.values()}:
                found.append(service.name)
        return found

    # Revisions

    async def add_revision(self, revision: Revision, *, kept: Sequence[int]) -> None:
        """The oldest go, but for those to be `kept`."""
        connection = self._transaction.connection
        row = {"service": revision.service, "number": revision.number, "body": revision.model_dump_json()}
        await connection.execute(service_revisions.insert(), [row])
        newest = (
            select(_REVISIONS.number)
            .where(_REVISIONS.service == revision.service)
            .order_by(_REVISIONS.number.desc())
            .limit(REVISIONS_KEPT)
        )
        await connection.execute(
            delete(service_revisions).where(
                _REVISIONS.service == revision.service,
                _REVISIONS.number.not_in(newest.scalar_subquery()),
                _REVISIONS.number.not_in(list(kept)),
            )
        )

    async def revisions(self, service: str, numbers: Sequence[int] | None = None) -> list[Revision]:
        """Oldest first; of these numbers, or all that are kept."""
        query = select(_REVISIONS.body).where(_REVISIONS.service == service).order_by(_REVISIONS.number)
        if numbers is not None:
            query = query.where(_REVISIONS.number.in_(list(numbers)))
        rows = await self._transaction.connection.execute(query)
        return [Revision.model_validate_json(row[0]) for row in rows.all()]

    async def forget(self, service: str) -> None:
        """Its revisions: it is gone."""
        await self._transaction.connection.execute(delete(service_revisions).where(_REVISIONS.service == service))
