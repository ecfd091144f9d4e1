"""Operations in the database; made and ended in the same transaction as the move they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select

from skerry.errors import NotFound
from skerry.model.identity import make_id
from skerry.model.operation import Operation, OperationState
from skerry.store.paging import Page, make_token, read_token
from skerry.store.statements import Statements
from skerry.store.tables import operations

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

_STATEMENTS = Statements(operations, ("id", "state"))


class Operations:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def new(self, kind: str, target: str, project: str) -> Operation:
        """Not in the database before the move or insert that it is given to."""
        return Operation(
            id=make_id("operation", self._transaction.chance(6)),
            project=project,
            kind=kind,
            target=target,
            state=OperationState.RUNNING,
            created_at=self._transaction.now,
        )

    async def insert(self, made: Sequence[Operation]) -> None:
        if not made:
            return
        await self._transaction.connection.execute(_STATEMENTS.insert, [_row(operation) for operation in made])
        self._transaction.written.extend(made)

    async def finish(self, operation_id: str, error: str | None) -> None:
        """With an error it failed. One that has ended already keeps its end."""
        await self._change(
            operation_id,
            state=OperationState.SUCCEEDED if error is None else OperationState.FAILED,
            error=error,
            finished_at=self._transaction.now,
        )

    async def progress(self, operation_id: str, progress: dict[str, Any]) -> None:
        await self._change(operation_id, progress=progress)

    async def _change(self, operation_id: str, **changes: Any) -> None:
        running = {"was_id": operation_id, "was_state": OperationState.RUNNING.value}
        connection = self._transaction.connection
        body = await connection.scalar(_STATEMENTS.believed, running)
        if body is None:
            return
        changed = Operation.model_validate_json(body).model_copy(update=changes)
        await connection.execute(_STATEMENTS.write, {**running, **_row(changed)})
        self._transaction.written.append(changed)

    async def find(self, ref: str, project: str) -> Operation:
        body = await self._transaction.connection.scalar(
            select(operations.c.body).where(operations.c.id == ref, operations.c.project == project)
        )
        if body is None:
            raise NotFound(f"there is no operation {ref!r}; ended ones are kept for a while only")
        return Operation.model_validate_json(body)

    async def list(
        self,
        project: str,
        *,
        target: str | None = None,
        state: OperationState | None = None,
        limit: int,
        page_token: str | None = None,
    ) -> Page[Operation]:
        c = operations.c
        where: list[ColumnElement[bool]] = [c.project == project, c.sequence > read_token(page_token)]
        if target is not None:
            where.append(c.target == target)
        if state is not None:
            where.append(c.state == state.value)
        rows = (
            await self._transaction.connection.execute(
                select(c.sequence, c.body).where(*where).order_by(c.sequence).limit(limit + 1)
            )
        ).all()
        items = [Operation.model_validate_json(row[1]) for row in rows[:limit]]
        return Page(items, make_token(rows[limit - 1][0]) if len(rows) > limit else None)


def _row(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "project": operation.project,
        "target": operation.target,
        "state": operation.state.value,
        "body": operation.model_dump_json(),
    }
