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
    await connection.execute(
        text(
            f"CREATE TABLE networks (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, body TEXT NOT NULL,"
            " CONSTRAINT networks_name UNIQUE (project, name))"
        )
    )


def _counter(connection: AsyncConnection) -> str:
    is_sqlite = connection.dialect.name == "sqlite"
    return "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" if is_sqlite else "BIGSERIAL PRIMARY KEY"


async def _volumes(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN volumes TEXT"))
    await connection.execute(text("CREATE INDEX sandboxes_mounting ON sandboxes (state) WHERE volumes IS NOT NULL"))
    await connection.execute(
        text(
            f"CREATE TABLE volumes (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, state VARCHAR(16) NOT NULL,"
            " labels JSON NOT NULL, updated_at FLOAT NOT NULL, body TEXT NOT NULL)"
        )
    )
    await connection.execute(text("CREATE INDEX volumes_state ON volumes (state, sequence)"))
    await connection.execute(
        text(
            "CREATE UNIQUE INDEX volumes_name ON volumes (project, name)"
            " WHERE state IN ('creating', 'ready', 'resizing')"
        )
    )


async def _secrets(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE sandboxes ADD COLUMN secrets TEXT"))
    await connection.execute(text("CREATE INDEX sandboxes_secrets ON sandboxes (state) WHERE secrets IS NOT NULL"))
    await connection.execute(
        text(
            f"CREATE TABLE secrets (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, version BIGINT NOT NULL,"
            " sealed TEXT NOT NULL, body TEXT NOT NULL, CONSTRAINT secrets_name UNIQUE (project, name))"
        )
    )


async def _queues(connection: AsyncConnection) -> None:
    """Whatever there is of sandboxes is in the default queue, is nobody's, and asks for no accelerator; and nobody has
    set anything of a node."""
    for column in (
        "queue VARCHAR(63) NOT NULL DEFAULT 'default'",
        "owner VARCHAR(63) NOT NULL DEFAULT ''",
        "asks TEXT",
    ):
        await connection.execute(text(f"ALTER TABLE sandboxes ADD COLUMN {column}"))
    await connection.execute(
        text(
            f"CREATE TABLE queues (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " name VARCHAR(63) NOT NULL UNIQUE, version BIGINT NOT NULL, body TEXT NOT NULL)"
        )
    )
    await connection.execute(text("ALTER TABLE nodes ADD COLUMN marks TEXT NOT NULL DEFAULT '{}'"))
    await connection.execute(text("ALTER TABLE nodes ADD COLUMN marked BIGINT NOT NULL DEFAULT 0"))


PLACEMENT_COLUMNS = (
    "tier INTEGER NOT NULL DEFAULT 3",
    "priority INTEGER NOT NULL DEFAULT 50",
    "job VARCHAR(32)",
    "gang VARCHAR(64)",
    "gang_size INTEGER NOT NULL DEFAULT 1",
    "gang_min INTEGER NOT NULL DEFAULT 1",
    "rank INTEGER NOT NULL DEFAULT 0",
    "gpu_milli BIGINT NOT NULL DEFAULT 0",
    "devices TEXT",
    "limit_s FLOAT",
    "queued_at FLOAT",
    "placed_at FLOAT",
    "evicted BOOLEAN NOT NULL DEFAULT FALSE",
)


async def _placement(connection: AsyncConnection) -> None:
    """What the scheduler reads of sandboxes. Those that are there ask for nothing that it did not know before."""
    for column in PLACEMENT_COLUMNS:
        await connection.execute(text(f"ALTER TABLE sandboxes ADD COLUMN {column}"))
    await connection.execute(text("CREATE INDEX sandboxes_job ON sandboxes (job) WHERE job IS NOT NULL"))
    await connection.execute(text("CREATE INDEX sandboxes_evicted ON sandboxes (state) WHERE evicted"))
    await connection.execute(
        text(
            f"CREATE TABLE stays (sequence {_counter(connection)}, sandbox VARCHAR(32) NOT NULL,"
            " node VARCHAR(32) NOT NULL, project VARCHAR(63) NOT NULL, owner VARCHAR(63) NOT NULL,"
            " queue VARCHAR(63) NOT NULL, job VARCHAR(32), cpu FLOAT NOT NULL, memory_bytes BIGINT NOT NULL,"
            " gpu_milli BIGINT NOT NULL, began_s FLOAT NOT NULL, ended_s FLOAT)"
        )
    )
    await connection.execute(text("CREATE UNIQUE INDEX stays_open ON stays (sandbox) WHERE ended_s IS NULL"))
    await connection.execute(text("CREATE INDEX stays_ended ON stays (ended_s)"))
    await connection.execute(text("CREATE INDEX stays_job ON stays (job) WHERE job IS NOT NULL"))
    holding = "state IN ('starting', 'running', 'asleep', 'stopping', 'restoring') AND node IS NOT NULL"
    await connection.execute(text(f"UPDATE sandboxes SET placed_at = updated_at WHERE {holding}"))
    await connection.execute(
        text(
            "INSERT INTO stays (sandbox, node, project, owner, queue, cpu, memory_bytes, gpu_milli, began_s)"
            f" SELECT id, node, project, '', 'default', cpu, memory_bytes, 0, updated_at FROM sandboxes WHERE {holding}"
        )
    )


async def _jobs(connection: AsyncConnection) -> None:
    going_on = "WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')"
    for statement in (
        (
            f"CREATE TABLE jobs (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, state VARCHAR(16) NOT NULL,"
            " queue VARCHAR(63) NOT NULL, owner VARCHAR(63) NOT NULL, image_name VARCHAR(512) NOT NULL, volumes TEXT,"
            " secrets TEXT, network VARCHAR(63), labels JSON NOT NULL, tasks_made INTEGER NOT NULL DEFAULT 0,"
            " forgotten BOOLEAN NOT NULL DEFAULT FALSE, updated_at FLOAT NOT NULL, body TEXT NOT NULL)"
        ),
        "CREATE INDEX jobs_state ON jobs (state, sequence)",
        "CREATE INDEX jobs_networked ON jobs (sequence) WHERE network IS NOT NULL",
        "CREATE INDEX jobs_forgotten ON jobs (sequence) WHERE forgotten",
        f"CREATE UNIQUE INDEX jobs_name ON jobs (project, name) {going_on}",
        (
            f"CREATE TABLE tasks (sequence {_counter(connection)}, job VARCHAR(32) NOT NULL, number BIGINT NOT NULL,"
            " position INTEGER NOT NULL, state VARCHAR(16) NOT NULL, attempt INTEGER NOT NULL,"
            " members INTEGER NOT NULL, due_at FLOAT, cancel TEXT, body TEXT NOT NULL,"
            " CONSTRAINT tasks_number UNIQUE (job, number))"
        ),
        "CREATE INDEX tasks_state ON tasks (job, state, position)",
        f"CREATE INDEX tasks_going_on ON tasks (job, state, members, position) {going_on}",
        "CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL",
    ):
        await connection.execute(text(statement))


async def _notices(connection: AsyncConnection) -> None:
    for statement in (
        (
            f"CREATE TABLE notices (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " job VARCHAR(32) NOT NULL, due_at FLOAT NOT NULL, body TEXT NOT NULL)"
        ),
        "CREATE INDEX ix_notices_job ON notices (job)",
        "CREATE INDEX ix_notices_due_at ON notices (due_at)",
    ):
        await connection.execute(text(statement))


async def _services(connection: AsyncConnection) -> None:
    here = "WHERE state NOT IN ('deleting', 'deleted')"
    sums = ", ".join(f"{name} BIGINT NOT NULL DEFAULT 0" for name in USAGE_COUNTS)
    for statement in (
        "ALTER TABLE sandboxes ADD COLUMN service VARCHAR(32)",
        "CREATE INDEX sandboxes_service ON sandboxes (service) WHERE service IS NOT NULL",
        (
            f"CREATE TABLE services (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, state VARCHAR(16) NOT NULL,"
            " image_name VARCHAR(512), volumes TEXT, secrets TEXT, labels JSON NOT NULL, updated_at FLOAT NOT NULL,"
            " body TEXT NOT NULL)"
        ),
        "CREATE INDEX services_state ON services (state, sequence)",
        f"CREATE UNIQUE INDEX services_name ON services (project, name) {here}",
        (
            f"CREATE TABLE service_revisions (sequence {_counter(connection)}, service VARCHAR(32) NOT NULL,"
            " number INTEGER NOT NULL, body TEXT NOT NULL, CONSTRAINT revisions_number UNIQUE (service, number))"
        ),
        (
            f"CREATE TABLE tokens (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(63) NOT NULL, secret_hash VARCHAR(64) NOT NULL UNIQUE,"
            " revoked BOOLEAN NOT NULL DEFAULT FALSE, used_at FLOAT, spent BIGINT NOT NULL DEFAULT 0,"
            " body TEXT NOT NULL)"
        ),
        "CREATE UNIQUE INDEX tokens_name ON tokens (project, name) WHERE NOT revoked",
        (
            f"CREATE TABLE usage (sequence {_counter(connection)}, project VARCHAR(63) NOT NULL,"
            " service VARCHAR(63) NOT NULL, model VARCHAR(128) NOT NULL, client VARCHAR(63) NOT NULL,"
            f" hour_s BIGINT NOT NULL, {sums}, seconds FLOAT NOT NULL DEFAULT 0,"
            " CONSTRAINT usage_of UNIQUE (project, service, model, client, hour_s))"
        ),
        (
            "CREATE TABLE usage_reports (gateway VARCHAR(64) NOT NULL, number BIGINT NOT NULL, at_s FLOAT NOT NULL,"
            " PRIMARY KEY (gateway, number))"
        ),
        "CREATE INDEX ix_usage_reports_at_s ON usage_reports (at_s)",
        (
            "CREATE TABLE taken (client VARCHAR(32) NOT NULL, minute BIGINT NOT NULL, requests BIGINT NOT NULL,"
            " tokens BIGINT NOT NULL, PRIMARY KEY (client, minute))"
        ),
        (
            "CREATE TABLE held (client VARCHAR(32) NOT NULL, gateway VARCHAR(64) NOT NULL,"
            " concurrency INTEGER NOT NULL, until_s FLOAT NOT NULL, PRIMARY KEY (client, gateway))"
        ),
    ):
        await connection.execute(text(statement))


USAGE_COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens")


async def _evictions(connection: AsyncConnection) -> None:
    """When a stay's sandbox was asked to make room for others."""
    await connection.execute(text("ALTER TABLE stays ADD COLUMN evicted_s FLOAT"))
    await connection.execute(text("CREATE INDEX stays_evicted ON stays (evicted_s) WHERE evicted_s IS NOT NULL"))


async def _models(connection: AsyncConnection) -> None:
    for statement in (
        "ALTER TABLE sandboxes ADD COLUMN models TEXT",
        "CREATE INDEX sandboxes_models ON sandboxes (state) WHERE models IS NOT NULL",
        "ALTER TABLE jobs ADD COLUMN models TEXT",
        (
            f"CREATE TABLE models (sequence {_counter(connection)}, id VARCHAR(32) NOT NULL UNIQUE,"
            " project VARCHAR(63) NOT NULL, name VARCHAR(128) NOT NULL, state VARCHAR(16) NOT NULL,"
            " source TEXT NOT NULL, base VARCHAR(32), updated_at FLOAT NOT NULL, body TEXT NOT NULL)"
        ),
        "CREATE INDEX models_state ON models (state, sequence)",
        "CREATE INDEX ix_models_source ON models (source)",
        "CREATE UNIQUE INDEX models_name ON models (project, name) WHERE state IN ('creating', 'ready')",
    ):
        await connection.execute(text(statement))


async def _traffic(connection: AsyncConnection) -> None:
    await connection.execute(
        text(
            f"CREATE TABLE traffic_reports (sequence {_counter(connection)}, control VARCHAR(32) NOT NULL,"
            " at_s FLOAT NOT NULL, body TEXT NOT NULL)"
        )
    )
    await connection.execute(text("CREATE INDEX ix_traffic_reports_at_s ON traffic_reports (at_s)"))


async def _budgets(connection: AsyncConnection) -> None:
    await connection.execute(
        text(
            "CREATE TABLE set_aside (client VARCHAR(32) NOT NULL, gateway VARCHAR(64) NOT NULL, tokens BIGINT NOT NULL,"
            " until_s FLOAT NOT NULL, PRIMARY KEY (client, gateway))"
        )
    )


async def _model_labels(connection: AsyncConnection) -> None:
    await connection.execute(text("ALTER TABLE models ADD COLUMN labels JSON NOT NULL DEFAULT '{}'"))


STEPS: tuple[Step, ...] = (
    _applied,
    _ranges_as_rules,
    _ports,
    _networks,
    _volumes,
    _secrets,
    _queues,
    _placement,
    _jobs,
    _notices,
    _services,
    _evictions,
    _models,
    _traffic,
    _budgets,
    _model_labels,
)
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
