"""Secrets in the database: what is known of each beside its sealed value, which only leaves for a machine's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, exc, func, or_, select, update

from skerry.errors import Conflict, NotFound
from skerry.model.fields import Labels
from skerry.model.identity import make_id
from skerry.model.secret import SealedSecret, Secret, bound_to, is_text
from skerry.store.paging import Page, make_token, read_token
from skerry.store.tables import secrets

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

Seal = Callable[[bytes, str], str]
"""(value, what it is bound to) -> the text that is stored."""


class Secrets:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def set(self, name: str, project: str, value: bytes, labels: Labels | None, seal: Seal) -> Secret:
        """A new one, or a new version of the one there is. Raises Conflict when somebody else sets it just now."""
        transaction = self._transaction
        try:
            had = await self.find(name, project)
        except NotFound:
            had = None
        secret = Secret(
            id=had.id if had else make_id("secret", transaction.chance(6)),
            project=project,
            name=name,
            version=had.version + 1 if had else 1,
            size_bytes=len(value),
            text=is_text(value),
            labels=labels if labels is not None else had.labels if had else {},
            created_at=had.created_at if had else transaction.now,
            updated_at=transaction.now,
        )
        sealed = seal(value, bound_to(project, name, secret.id, secret.version))
        written = {"version": secret.version, "sealed": sealed, "body": secret.model_dump_json()}
        if not (await self._change(had, written) if had else await self._insert(secret, written)):
            raise Conflict(f"secret {name} has just been set by somebody else; look, then try again")
        told = "created" if had is None else "updated"
        await transaction.events.add([("secret", secret.id, name, told, f"version {secret.version}")])
        return secret

    async def _insert(self, secret: Secret, written: Mapping[str, int | str]) -> bool:
        row = {"id": secret.id, "project": secret.project, "name": secret.name, **written}
        try:
            await self._transaction.connection.execute(secrets.insert().values(**row))
        except exc.IntegrityError:
            return False
        return True

    async def _change(self, had: Secret, written: Mapping[str, int | str]) -> bool:
        c = secrets.c
        believed = (c.id == had.id, c.version == had.version)
        done = await self._transaction.connection.execute(update(secrets).where(*believed).values(**written))
        return done.rowcount == 1

    async def find(self, ref: str, project: str) -> Secret:
        c = secrets.c
        rows = await self._transaction.connection.execute(
            select(c.body).where(c.project == project, or_(c.id == ref, c.name == ref))
        )
        body = rows.scalar()
        if body is None:
            raise NotFound(f"there is no secret {ref!r}")
        return Secret.model_validate_json(body)

    async def named(self, names: Sequence[str], project: str) -> dict[str, Secret]:
        c = secrets.c
        rows = await self._transaction.connection.execute(select(c.body).where(c.project == project, c.name.in_(names)))
        found = [Secret.model_validate_json(body) for body in rows.scalars()]
        return {secret.name: secret for secret in found}

    async def sealed(self, names: Sequence[str], project: str) -> list[SealedSecret]:
        """Those of them that there are, as they are now."""
        c = secrets.c
        rows = await self._transaction.connection.execute(
            select(c.id, c.name, c.version, c.sealed).where(c.project == project, c.name.in_(names)).order_by(c.name)
        )
        return [
            SealedSecret(id=row[0], project=project, name=row[1], version=row[2], sealed=row[3]) for row in rows.all()
        ]

    async def list(self, project: str, *, limit: int, page_token: str | None = None) -> Page[Secret]:
        c = secrets.c
        rows = (
            await self._transaction.connection.execute(
                select(c.sequence, c.body)
                .where(c.project == project, c.sequence > read_token(page_token))
                .order_by(c.sequence)
                .limit(limit + 1)
            )
        ).all()
        items = [Secret.model_validate_json(row[1]) for row in rows[:limit]]
        return Page(items, make_token(rows[limit - 1][0]) if len(rows) > limit else None)

    async def count(self) -> int:
        """Of every project."""
        return await self._transaction.connection.scalar(select(func.count()).select_from(secrets))  # pyright: ignore[reportReturnType]

    async def delete(self, secret: Secret) -> None:
        await self._transaction.connection.execute(delete(secrets).where(secrets.c.id == secret.id))
        await self._transaction.events.add([("secret", secret.id, secret.name, "deleted", "")])
