"""Volumes in the database. Who mounts them the sandboxes say."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Table, func, select, text

from skerry.model.moves import Moves
from skerry.model.volume import VOLUME_MOVES, Volume, VolumeState
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import volumes

VOLUMES_LOCK = 0x5CE774
"""PostgreSQL's advisory lock: of one who mounts a volume and one who deletes it, one must see the other."""


class Volumes(Records[Volume]):
    noun: ClassVar[str] = "volume"
    prefix: ClassVar[str] = "vol"
    table: ClassVar[Table] = volumes
    statements: ClassVar[Statements] = Statements(volumes, ("id", "state"))
    moves: ClassVar[Moves[Any]] = VOLUME_MOVES
    model = Volume

    def index(self, record: Volume) -> dict[str, Any]:
        return {"name": record.name, "labels": record.labels}

    def name_of(self, record: Volume) -> str:
        return record.name

    def at_rest(self, record: Volume) -> bool | None:
        match record.state:
            case VolumeState.READY | VolumeState.FAILED:
                return record.reason is None
            case VolumeState.DELETED:
                return True
            case _:
                return None

    async def lock_all(self) -> None:
        """Nobody else makes, mounts or deletes one until this transaction ends."""
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await self._transaction.connection.execute(text(f"SELECT pg_advisory_xact_lock({VOLUMES_LOCK})"))

    async def list(
        self,
        project: str,
        *,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Volume]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.project == project, c.state != VolumeState.DELETED.value]
        if name is not None:
            where.append(func.substr(c.name, 1, len(name)) == name)
        for key, value in (labels or {}).items():
            where.append(c.labels[key].as_string() == value)
        return await self._page(where, limit, page_token)

    async def failed_named(self, name: str, project: str) -> list[Volume]:
        c = self.table.c
        failed = c.state == VolumeState.FAILED.value
        return await self._many(select(c.body).where(c.project == project, c.name == name, failed))

    async def copies_under_way(self, source: str) -> list[Volume]:
        """Those that have still to be made from it."""
        c = self.table.c
        creating = await self._many(select(c.body).where(c.state == VolumeState.CREATING.value))
        return [volume for volume in creating if volume.source == source]

    async def count_living(self) -> int:
        c = self.table.c
        living = select(func.count()).select_from(self.table).where(c.state != VolumeState.DELETED.value)
        return await self._transaction.connection.scalar(living)  # pyright: ignore[reportReturnType]
