"""Keys in the database. Only a hash of each secret is kept.

One round of SHA-256 is right here, and a slow password hash would be wrong: a secret is 256 random bits, so nobody can
try them out however fast the hash, and a slow one would cost every request its time.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, exc, func, or_, select, update

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import make_id
from skerry.model.key import Key
from skerry.store.paging import Page, make_token, read_token
from skerry.store.tables import keys

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

SECRET_PREFIX = "sk_"
SECRET_BYTES = 32


def make_secret(chance: bytes) -> str:
    """`chance`: 32 random bytes from the caller."""
    if len(chance) != SECRET_BYTES:
        raise ValueError("32 random bytes are needed")
    return SECRET_PREFIX + chance.hex()


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def create(self, name: str, project: str, secret: str) -> Key:
        transaction = self._transaction
        key = Key(id=make_id("key", transaction.chance(6)), project=project, name=name, created_at=transaction.now)
        try:
            await transaction.connection.execute(
                keys.insert().values(
                    id=key.id,
                    project=project,
                    name=name,
                    secret_hash=hash_secret(secret),
                    body=key.model_dump_json(),
                )
            )
        except exc.IntegrityError as error:
            raise AlreadyExists(f"there is already a key named {name}", because=str(error), field="name") from error
        await transaction.events.add([("key", key.id, name, "created", "")])
        return key

    async def with_secret(self, secret: str) -> Key | None:
        """The key whose secret this is. The index is searched by hash: timing it tells nothing about a secret."""
        wanted = hash_secret(secret)
        rows = await self._transaction.connection.execute(
            select(keys.c.secret_hash, keys.c.last_used_at, keys.c.body).where(keys.c.secret_hash == wanted)
        )
        row = rows.first()
        if row is None or not hmac.compare_digest(row[0], wanted):
            return None
        return _read(row[2], row[1])

    async def used(self, key_id: str) -> None:
        await self._transaction.connection.execute(
            update(keys).where(keys.c.id == key_id).values(last_used_at=self._transaction.now.timestamp())
        )

    async def find(self, ref: str, project: str) -> Key:
        rows = await self._transaction.connection.execute(
            select(keys.c.last_used_at, keys.c.body).where(
                keys.c.project == project, or_(keys.c.id == ref, keys.c.name == ref)
            )
        )
        row = rows.first()
        if row is None:
            raise NotFound(f"there is no key {ref!r}")
        return _read(row[1], row[0])

    async def list(self, project: str, *, limit: int, page_token: str | None = None) -> Page[Key]:
        c = keys.c
        rows = (
            await self._transaction.connection.execute(
                select(c.sequence, c.last_used_at, c.body)
                .where(c.project == project, c.sequence > read_token(page_token))
                .order_by(c.sequence)
                .limit(limit + 1)
            )
        ).all()
        items = [_read(row[2], row[1]) for row in rows[:limit]]
        return Page(items, make_token(rows[limit - 1][0]) if len(rows) > limit else None)

    async def count(self) -> int:
        return await self._transaction.connection.scalar(select(func.count()).select_from(keys))  # pyright: ignore[reportReturnType]

    async def delete(self, key: Key) -> bool:
        done = await self._transaction.connection.execute(delete(keys).where(keys.c.id == key.id))
        if done.rowcount == 0:
            return False
        await self._transaction.events.add([("key", key.id, key.name, "deleted", "")])
        return True


def _read(body: str, last_used_at: float | None) -> Key:
    used = None if last_used_at is None else datetime.fromtimestamp(last_used_at, UTC)
    return Key.model_validate_json(body).model_copy(update={"last_used_at": used})
