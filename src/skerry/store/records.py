"""The tables of nouns with states have this in common: insert, find by what a user typed, list, the guarded move."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, exc, select

from skerry.errors import AlreadyExists, Conflict, NotFound
from skerry.model.checkpoint import Checkpoint
from skerry.model.image import Image
from skerry.model.job import Job
from skerry.model.moves import Moves, move
from skerry.model.operation import Operation
from skerry.model.sandbox import Sandbox
from skerry.model.service import Service
from skerry.model.volume import Volume
from skerry.model.weights import Model
from skerry.store.paging import Page, make_token, read_token
from skerry.store.statements import Statements

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

R = TypeVar("R", Sandbox, Checkpoint, Image, Volume, Model, Job, Service)

PREFIX_DIGITS_MIN = 4
CANDIDATES_NAMED_MAX = 5
_DIGITS = re.compile(r"[0-9a-f]{4,12}")


class Named(Protocol):
    id: str
    name: str


class Records(Generic[R]):
    """Bound to one transaction. Subclasses say which noun this is and how its record is indexed."""

    noun: ClassVar[str]
    prefix: ClassVar[str]
    table: ClassVar[Table]
    statements: ClassVar[Statements]
    moves: ClassVar[Moves[Any]]
    model: type[R]

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def index(self, record: R) -> dict[str, Any]:
        """The columns of a record besides id, project, state and body."""
        raise NotImplementedError

    def belief(self, was: R) -> dict[str, Any]:
        """What a writer believes of the row it changes: a value for each column that guards it."""
        return {"was_id": was.id, "was_state": was.state.value}

    def changed(self, was: R, given: dict[str, Any]) -> dict[str, Any]:
        """What is written of a change, with what follows from it."""
        return given

    async def follow(self, was: R | None, now: R) -> None:
        """What else is written with a record, in the same transaction."""

    def name_of(self, record: R) -> str:
        raise NotImplementedError

    def at_rest(self, record: R) -> bool | None:
        """Whether its operation has ended: True well, False badly, None not yet."""
        raise NotImplementedError

    # Reading

    async def get(self, record_id: str) -> R | None:
        return await self._one(self.statements.by_id, {"id": record_id})

    async def in_states(self, states: Iterable[Any], limit: int, excluding: Sequence[str] = ()) -> list[R]:
        """Oldest first; `excluding` are ids that the caller knows of already."""
        if limit <= 0:
            return []
        given = {"states": [state.value for state in states], "excluding": list(excluding), "limit": limit}
        return await self._many(self.statements.in_states, given)

    async def with_ids(self, ids: Sequence[str]) -> list[R]:
        return await self._many(select(self.table.c.body).where(self.table.c.id.in_(ids))) if ids else []

    async def states_of(self, ids: Sequence[str]) -> dict[str, str]:
        c = self.table.c
        rows = await self._transaction.connection.execute(select(c.id, c.state).where(c.id.in_(ids)))
        return {row[0]: row[1] for row in rows.all()}

    async def find(self, ref: str, project: str) -> R:
        """By id, by name, or by a unique beginning of an id. Raises NotFound, or Conflict naming the candidates."""
        digits = ref.removeprefix(f"{self.prefix}-")
        low = high = ""
        if _DIGITS.fullmatch(digits):
            low, high = f"{self.prefix}-{digits}", f"{self.prefix}-{digits}g"
        given = {
            "project": project,
            "ref": ref,
            "name": self.whole_name(ref),
            "low": low,
            "high": high,
            "limit": CANDIDATES_NAMED_MAX + 1,
        }
        return self._choose(ref, await self._many(self.statements.by_ref, given))

    def whole_name(self, ref: str) -> str:
        """What a user typed as a name, as names are kept."""
        return ref

    def _choose(self, ref: str, found: Sequence[R]) -> R:
        alive = [record for record in found if record.state.value != "deleted"]
        exact = [record for record in alive if record.id == ref]
        # A name may be worn by one that is being deleted and by its successor: the living one is meant.
        named = [record for record in alive if self.name_of(record) == ref]
        living = [record for record in named if record.state.value not in ("deleting", "failed")]
        for choice in (exact, living, named):
            if choice:
                return choice[0]
        if len(alive) > 1:
            names = ", ".join(f"{record.id} ({self.name_of(record)})" for record in alive[:CANDIDATES_NAMED_MAX])
            raise Conflict(f"{ref!r} begins more than one {self.noun} id: {names}")
        if alive:
            return alive[0]
        if any(record.id == ref for record in found):
            raise NotFound(f"{self.noun} {ref} was deleted")
        raise NotFound(f"there is no {self.noun} {ref!r}")

    async def _one(self, query: Select[Any], given: Mapping[str, Any]) -> R | None:
        body = await self._transaction.connection.scalar(query, given)
        return None if body is None else self._read(body)

    async def _many(self, query: Select[Any], given: Mapping[str, Any] | None = None) -> list[R]:
        rows = await self._transaction.connection.execute(query, given)
        return [self._read(row[0]) for row in rows.all()]

    def _read(self, body: str) -> R:
        return cast(R, self.model.model_validate_json(body))

    async def _page(self, where: Sequence[ColumnElement[bool]], limit: int, token: str | None) -> Page[R]:
        """In the order of creation. One more row than asked tells whether there is a next page."""
        table = self.table
        query = (
            select(table.c.sequence, table.c.body)
            .where(table.c.sequence > read_token(token), *where)
            .order_by(table.c.sequence)
            .limit(limit + 1)
        )
        rows = (await self._transaction.connection.execute(query)).all()
        more = len(rows) > limit
        items = [self._read(row[1]) for row in rows[:limit]]
        return Page(items, make_token(rows[limit - 1][0]) if more else None)

    # Writing

    def _row(self, record: R) -> dict[str, Any]:
        return {
            "id": record.id,
            "project": record.project,
            "state": record.state.value,
            "updated_at": self._transaction.now.timestamp(),
            "body": record.model_dump_json(),
            **self.index(record),
        }

    async def insert(self, records: Sequence[R], operations: Sequence[Operation], message: str = "") -> None:
        """With the operation of each and its event. Raises AlreadyExists when a name is taken."""
        transaction = self._transaction
        try:
            await transaction.connection.execute(self.statements.insert, [self._row(each) for each in records])
        except exc.IntegrityError as error:
            names = ", ".join(self.name_of(record) for record in records[:CANDIDATES_NAMED_MAX])
            raise AlreadyExists(
                f"the name {names} is taken by another {self.noun}", because=str(error), field="name"
            ) from error
        await transaction.operations.insert(operations)
        await transaction.events.add(
            [(self.noun, record.id, self.name_of(record), "created", message) for record in records]
        )
        transaction.written.extend(records)
        for record in records:
            await self.follow(None, record)

    async def move(
        self,
        was: R,
        to: Any,
        event: str,
        *,
        message: str = "",
        operation: Operation | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> R | None:
        """Take one arrow of MOVES. None when the row is no longer what the caller believes: stop quietly.

        `operation` is new work that takes the place of what was under way. Arriving at rest ends the operation."""
        move(self.moves, was.state, to)
        written = await self._write(was, {"state": to, **(changes or {})}, operation)
        if written is None:
            return None
        rest = self.at_rest(written)
        if operation is None and rest is not None and written.operation is not None:
            await self._transaction.operations.finish(written.operation, None if rest else written.reason or "failed")
        await self._transaction.events.add([(self.noun, was.id, self.name_of(written), event, message)])
        return written

    async def lock(self, was: R) -> R | None:
        """The row as it is now, and nobody else changes it before this transaction ends; None if it is outdated."""
        return await self._one(self.statements.believed, self.belief(was))

    async def change(
        self,
        was: R,
        changes: Mapping[str, Any] | Callable[[R], Mapping[str, Any]],
        *,
        operation: Operation | None = None,
    ) -> R | None:
        """Fields that are not the state; guarded just the same. A function is given the row as it is now. `operation`
        is as of `move`."""
        return await self._write(was, changes, operation)

    async def _write(
        self,
        was: R,
        changes: Mapping[str, Any] | Callable[[R], Mapping[str, Any]],
        operation: Operation | None,
    ) -> R | None:
        transaction = self._transaction
        # The row is read again and kept: what others wrote into the record meanwhile (a new name) must survive.
        belief = self.belief(was)
        fresh = await self._one(self.statements.believed, belief)
        if fresh is None:
            return None
        given = dict(changes(fresh) if callable(changes) else changes)
        if "updated_at" in self.model.model_fields:
            given["updated_at"] = transaction.now
        if operation is not None:
            if fresh.operation is not None:
                await transaction.operations.finish(fresh.operation, f"{operation.kind} was asked for meanwhile")
            await transaction.operations.insert([operation])
            given["operation"] = operation.id
        record = fresh.model_copy(update=self.changed(fresh, given))
        try:
            done = await transaction.connection.execute(self.statements.write, {**belief, **self._row(record)})
        except exc.IntegrityError as error:
            raise AlreadyExists(
                f"the name {self.name_of(record)} is taken by another {self.noun}", because=str(error), field="name"
            ) from error
        if done.rowcount == 0:
            return None
        await self.follow(fresh, record)
        transaction.written.append(record)
        return record
