"""Bring a database of any earlier version to this one: a new one is made whole, an older one goes step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from skerry.errors import Failed
from skerry.store.database import Database
from skerry.store.tables import metadata, schema_version

MIGRATION_LOCK = 0x5CE771
"""PostgreSQL's advisory lock: two control programs that start together must not both migrate."""

Step = Callable[[AsyncConnection], Awaitable[None]]


async def _applied(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN applied BOOLEAN NOT NULL DEFAULT TRUE"))
    await connection.execute(text("CREATE INDEX sandboxes_unapplied ON sandboxes (sequence) WHERE NOT applied"))


async def _ports(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN ports TEXT"))
    await connection.execute(text("CREATE INDEX sandboxes_publishing ON sandboxes (state) WHERE ports IS NOT NULL"))


STEPS: tuple[Step, ...] = (_applied, _ports)
"""Append-only: the N-th entry leads from version N to N+1. A step writes its own SQL and never uses `metadata`, which
is always the newest; change `tables.py` and add the step together. A model that allows less than before needs a step
too: records are validated when they are read."""


def newest_version() -> int:
    return 1 + len(STEPS)


async def migrate(database: Database) -> int:
    """Returns the version it is at now; raises Failed for a database from a newer Skerry. All in one transaction."""
    newest = newest_version()
    async with database.writing() as connection:
        if not database.is_sqlite:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        await connection.run_sync(schema_version.create, checkfirst=True)
        version = await connection.scalar(select(func.max(schema_version.c.version)))
        if version is not None and version > newest:
            raise Failed(
                f"the database is of version {version} and this Skerry knows {newest}: install the newer Skerry again"
            )
        if version is None:
            await connection.run_sync(metadata.create_all)
        else:
            for step in STEPS[version - 1 :]:
                await step(connection)
        if version != newest:
            await connection.execute(schema_version.insert().values(version=newest))
    return newest
