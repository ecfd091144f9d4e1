"""Checkpoints in the database: found by id or by number within their sandbox."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Table, func, select

from skerry.errors import NotFound
from skerry.model.checkpoint import CHECKPOINT_MOVES, Checkpoint, CheckpointState, Origin
from skerry.model.moves import Moves
from skerry.store.paging import Page
from skerry.store.records import Records
from skerry.store.statements import Statements
from skerry.store.tables import checkpoints

_NUMBER = re.compile(r"v?([0-9]{1,9})")
GONE = (CheckpointState.DELETING.value, CheckpointState.DELETED.value)


class Checkpoints(Records[Checkpoint]):
    noun: ClassVar[str] = "checkpoint"
    prefix: ClassVar[str] = "cp"
    table: ClassVar[Table] = checkpoints
    statements: ClassVar[Statements] = Statements(checkpoints, ("id", "state"))
    moves: ClassVar[Moves[Any]] = CHECKPOINT_MOVES
    model = Checkpoint

    def index(self, record: Checkpoint) -> dict[str, Any]:
        return {
            "sandbox": record.sandbox,
            "number": record.number,
            "origin": record.origin.value,
            "image_digest": record.image_digest,
            "created_at": record.created_at.timestamp(),
        }

    def name_of(self, record: Checkpoint) -> str:
        return f"v{record.number}"

    def at_rest(self, record: Checkpoint) -> bool | None:
        match record.state:
            case CheckpointState.READY | CheckpointState.DELETED:
                return True
            case CheckpointState.FAILED:
                return False
            case _:
                return None

    async def find_of(self, sandbox_id: str, ref: str) -> Checkpoint:
        """`v3`, `3`, an id, or a unique beginning of one, among this sandbox's own."""
        c = self.table.c
        if number := _NUMBER.fullmatch(ref):
            where = [c.number == int(number[1])]
        else:
            digits = ref.removeprefix("cp-")
            where = [c.id >= f"cp-{digits}", c.id < f"cp-{digits}g"]
            if not re.fullmatch(r"[0-9a-f]{4,12}", digits):
                raise NotFound(f"there is no checkpoint {ref!r}: give its number, such as v3, or its id")
        found = await self._many(select(c.body).where(c.sandbox == sandbox_id, *where).limit(6))
        if _NUMBER.fullmatch(ref):
            alive = [record for record in found if record.state is not CheckpointState.DELETED]
            if not alive:
                raise NotFound(f"this sandbox has no checkpoint {ref!r}")
            return alive[0]
        return self._choose(ref, found)

    async def list_of(self, sandbox_id: str, *, limit: int, page_token: str | None = None) -> Page[Checkpoint]:
        c = self.table.c
        where: list[ColumnElement[bool]] = [c.sandbox == sandbox_id, c.state != CheckpointState.DELETED.value]
        return await self._page(where, limit, page_token)

    async def living_of(self, sandbox_id: str) -> list[Checkpoint]:
        c = self.table.c
        return await self._many(select(c.body).where(c.sandbox == sandbox_id, c.state.not_in(GONE)))

    async def count_of(self, sandbox_id: str) -> int:
        c = self.table.c
        return await self._transaction.connection.scalar(
            select(func.count()).select_from(self.table).where(c.sandbox == sandbox_id, c.state.not_in(GONE))
        )  # pyright: ignore[reportReturnType]

    async def automatic(self, sandbox_id: str | None = None) -> list[Checkpoint]:
        """Those that a sandbox's policy (or any's) made and may remove, oldest first."""
        c = self.table.c
        where = [c.origin == Origin.AUTO.value, c.state.not_in(GONE)]
        if sandbox_id is not None:
            where.append(c.sandbox == sandbox_id)
        return await self._many(select(c.body).where(*where).order_by(c.sequence))

    async def for_forks(self) -> list[Checkpoint]:
        """Those taken only to fork from, once they are made."""
        c = self.table.c
        settled = (CheckpointState.READY.value, CheckpointState.FAILED.value)
        return await self._many(select(c.body).where(c.origin == Origin.FORK.value, c.state.in_(settled)))

    async def of_deleted_sandboxes(self) -> list[Checkpoint]:
        """Those that were kept for a fork when their sandbox was deleted."""
        from skerry.store.tables import sandboxes

        c = self.table.c
        gone = select(sandboxes.c.id).where(sandboxes.c.state.in_(GONE))
        theirs = c.origin != Origin.SERVICE.value
        return await self._many(select(c.body).where(c.state.not_in(GONE), theirs, c.sandbox.in_(gone)))

    async def answering(self, sandbox_id: str, request_id: str) -> Checkpoint | None:
        """The checkpoint that was made for this request of the guest, if it was already."""
        c = self.table.c
        guests = await self._many(
            select(c.body)
            .where(c.sandbox == sandbox_id, c.origin == Origin.GUEST.value)
            .order_by(c.sequence.desc())
            .limit(100)
        )
        return next((record for record in guests if record.request_id == request_id), None)
