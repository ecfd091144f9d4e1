"""Models in the database. Who mounts them the sandboxes say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Table, func, select

from skerry.model.moves import Moves
from skerry.model.weights import MODEL_MOVES, Model, ModelState
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import models

USABLE = (ModelState.CREATING.value, ModelState.READY.value)


class Models(Records[Model]):
    noun: ClassVar[str] = "model"
    prefix: ClassVar[str] = "mod"
    table: ClassVar[Table] = models
    statements: ClassVar[Statements] = Statements(models, ("id", "state"))
    moves: ClassVar[Moves[Any]] = MODEL_MOVES
    model = Model

    def index(self, record: Model) -> dict[str, Any]:
        return {"name": record.name, "source": record.source, "base": record.base, "labels": record.labels}

    def name_of(self, record: Model) -> str:
        return record.name

    def at_rest(self, record: Model) -> bool | None:
        match record.state:
            case ModelState.READY | ModelState.DELETED:
                return True
            case ModelState.FAILED:
                return False
            case _:
                return None

    async def list(
        self,
        project: str,
        *,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Model]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project, c.state != ModelState.DELETED.value]
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        for key, value in (labels or {}).items():
            where.append(c.labels[key].as_string() == value)
        return await self._page(where, limit, page_token)

    async def named(self, name: str) -> list[Model]:
        """All that bear the name and are not gone, the newest last."""
        c = self.table.c
        living = c.state.in_((*USABLE, ModelState.FAILED.value))
        mine = c.project == self._transaction.project
        return await self._many(select(c.body).where(mine, c.name == name, living).order_by(c.sequence))

    async def of_source(self, source: str) -> list[Model]:
        """Likewise of those that come from there."""
        c = self.table.c
        living = c.state.in_((*USABLE, ModelState.FAILED.value))
        mine = c.project == self._transaction.project
        return await self._many(select(c.body).where(mine, c.source == source, living).order_by(c.sequence))

    async def ids_of(self, names: Sequence[str]) -> dict[str, str]:
        """Of those that are ready."""
        c = self.table.c
        ready = (c.project == self._transaction.project, c.state == ModelState.READY.value)
        rows = await self._transaction.connection.execute(select(c.name, c.id).where(*ready, c.name.in_(names)))
        return {row[0]: row[1] for row in rows.all()}

    async def made_of(self, base: str) -> list[Model]:
        """Those that have still to be made of this model or volume."""
        c = self.table.c
        creating = c.state == ModelState.CREATING.value
        return await self._many(select(c.body).where(creating, c.base == base).order_by(c.sequence))

    async def count_living(self) -> int:
        c = self.table.c
        living = select(func.count()).select_from(self.table).where(c.state != ModelState.DELETED.value)
        return await self._transaction.connection.scalar(living)  # pyright: ignore[reportReturnType]
