"""Bring a database of any earlier version to this one: a new one is made whole, an older one goes step by step."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from skerry.errors import Failed
from skerry.model.verdict import rules_from_ranges
from skerry.store.database import Database
from skerry.store.tables import metadata, schema_version

MIGRATION_LOCK = 0x5CE771
"""PostgreSQL's advisory lock: two control programs that start together must not both migrate."""

Step = Callable[[AsyncConnection], Awaitable[None]]


async def _applied(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN applied BOOLEAN NOT NULL DEFAULT TRUE"))
    await connection.execute(text("CREATE INDEX sandboxes_unapplied ON sandboxes (sequence) WHERE NOT applied"))


async def _ranges_as_rules(connection: AsyncConnection) -> None:
    """`network.allow`, private ranges, has become rules among others."""
    for table in ("sandboxes", "checkpoints"):
        after = 0
        while True:
            # The text is searched first: most records name no range, and need not be read as JSON.
            rows = await connection.execute(
                text(
                    f"SELECT sequence, body FROM {table} WHERE sequence > :after AND body LIKE '%\"allow\"%'"
                    " ORDER BY sequence LIMIT 500"
                ),
                {"after": after},
            )
            found = rows.all()
            if not found:
                break
            for after, body in found:
                record = json.loads(body)
                network = record["spec"]["network"]
                if "allow" in network:
                    network["rules"] = rules_from_ranges(network.pop("allow"))
                    await connection.execute(
                        text(f"UPDATE {table} SET body = :body WHERE sequence = :sequence"),
                        {"body": json.dumps(record), "sequence": after},
                    )


async def _ports(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN ports TEXT"))
    await connection.execute(text("CREATE INDEX sandboxes_publishing ON sandboxes (state) WHERE ports IS NOT NULL"))


async def _networks(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN networks TEXT"))
    await connection.execute(text("CREATE INDEX sandboxes_networked ON sandboxes (state) WHERE networks IS NOT NULL"))
    counter = (
        "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" if connection.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
    )
    await connection.execute(
        text(
            f"CREATE TABLE networks (sequence {counter}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, body TEXT NOT NULL,"
            " CONSTRAINT networks_name UNIQUE (project, name))"
        )
    )


STEPS: tuple[Step, ...] = (_applied, _ranges_as_rules, _ports, _networks)
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
