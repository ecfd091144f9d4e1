"""Tokens of services; only the hash of each is kept, so that a copy of the database opens nothing."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exc, func, or_, select, update

from skerry.errors import AlreadyExists, NotFound
from skerry.model.token import TOKEN_PREFIX, Token
from skerry.store.keys import SECRET_BYTES, hash_secret
from skerry.store.paging import Page, make_token, read_token
from skerry.store.service_tables import tokens

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

_C = tokens.c
_READ = (_C.body, _C.used_at, _C.spent)


def make_token_secret(chance: bytes) -> str:
    """`chance`: 32 random bytes from the caller."""
    if len(chance) != SECRET_BYTES:
        raise ValueError("32 random bytes are needed")
    return TOKEN_PREFIX + chance.hex()


class Tokens:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def create(self, token: Token, secret: str) -> Token:
        row = {
            "id": token.id,
            "project": token.project,
            "name": token.name,
            "secret_hash": hash_secret(secret),
            "revoked": False,
            "body": token.model_dump_json(),
        }
        try:
            await self._transaction.connection.execute(tokens.insert(), [row])
        except exc.IntegrityError as error:
            say = f"name: there is already a token {token.name}; revoke it first, or take another name"
            raise AlreadyExists(say, because=str(error), field="name") from error
        await self._transaction.events.add([("token", token.id, token.name, "created", "")])
        return token

    async def with_secret(self, secret: str) -> Token | None:
        """Also one that is revoked or over: who asks looks at that."""
        wanted = hash_secret(secret)
        rows = await self._transaction.connection.execute(
            select(*_READ, _C.secret_hash).where(_C.secret_hash == wanted)
        )
        row = rows.first()
        if row is None or not hmac.compare_digest(row[3], wanted):
            return None
        return _read(row)

    async def get(self, token_id: str) -> Token | None:
        row = (await self._transaction.connection.execute(select(*_READ).where(_C.id == token_id))).first()
        return None if row is None else _read(row)

    async def find(self, ref: str, project: str) -> Token:
        """By id, or by name among those that are good."""
        named = and_(_C.name == ref, ~_C.revoked)
        query = select(*_READ).where(_C.project == project, or_(_C.id == ref, named))
        row = (await self._transaction.connection.execute(query)).first()
        if row is None:
            raise NotFound(f"there is no token {ref!r}")
        return _read(row)

    async def list(
        self, project: str, *, revoked: bool = False, limit: int, page_token: str | None = None
    ) -> Page[Token]:
        query = select(*_READ, _C.sequence).where(_C.project == project, _C.sequence > read_token(page_token))
        if not revoked:
            query = query.where(~_C.revoked)
        rows = (await self._transaction.connection.execute(query.order_by(_C.sequence).limit(limit + 1))).all()
        items = [_read(row) for row in rows[:limit]]
        return Page(items, make_token(rows[limit - 1][3]) if len(rows) > limit else None)

    async def count(self) -> int:
        """That are good."""
        counted = select(func.count()).select_from(tokens).where(~_C.revoked)
        return await self._transaction.connection.scalar(counted) or 0

    async def revoke(self, token: Token) -> Token:
        if token.revoked_at is not None:
            return token
        written = token.model_copy(update={"revoked_at": self._transaction.now})
        await self._transaction.connection.execute(
            update(tokens).where(_C.id == token.id, ~_C.revoked).values(revoked=True, body=written.model_dump_json())
        )
        await self._transaction.events.add([("token", token.id, token.name, "revoked", "")])
        return written

    async def used(self, ids: Sequence[str]) -> None:
        now_s = self._transaction.now.timestamp()
        await self._transaction.connection.execute(update(tokens).where(_C.id.in_(list(ids))).values(used_at=now_s))

    async def spend(self, token_id: str, count: int) -> None:
        """So many more tokens of its budget are gone."""
        query = update(tokens).where(_C.id == token_id).values(spent=_C.spent + count)
        await self._transaction.connection.execute(query)


def _read(row: Sequence[Any]) -> Token:
    used = None if row[1] is None else datetime.fromtimestamp(row[1], UTC)
    return Token.model_validate_json(row[0]).model_copy(update={"used_at": used, "spent": row[2]})
