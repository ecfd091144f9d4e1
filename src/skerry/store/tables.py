"""The tables, one per noun: the record is the JSON `body`, and the other columns are its index."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

# SQLite only counts up by itself in a column of type INTEGER.
COUNTER = BigInteger().with_variant(Integer, "sqlite")

LIVING = "state <> 'deleted'"
"""Spelled out in queries too, and not as a parameter: only so can SQLite see that a partial index serves them. Under
load there are a hundred tombstones to one living row."""

UNAPPLIED = "NOT applied"

PUBLISHING = "ports IS NOT NULL"

NETWORKED = "networks IS NOT NULL"

MOUNTING = "volumes IS NOT NULL"

WITH_SECRETS = "secrets IS NOT NULL"

WITH_MODELS = "models IS NOT NULL"

OF_JOBS = "job IS NOT NULL"

OF_SERVICES = "service IS NOT NULL"

EVICTED = "evicted"
ASKED = "evicted_s IS NOT NULL"
NETWORK = "network IS NOT NULL"

DUE = "due_at IS NOT NULL"

GOING_ON = "state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')"
"""Of jobs and of tasks: those that are not final."""

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("node", String(32)),
    Column("tier", Integer, nullable=False, server_default=text("3")),
    Column("priority", Integer, nullable=False, server_default=text("50")),
    Column("job", String(32)),
    Column("service", String(32)),
    Column("gang", String(64)),
    Column("gang_size", Integer, nullable=False, server_default=text("1")),
    Column("gang_min", Integer, nullable=False, server_default=text("1")),
    Column("rank", Integer, nullable=False, server_default=text("0")),
    Column("gpu_milli", BigInteger, nullable=False, server_default=text("0")),
    Column("devices", Text),
    Column("limit_s", Float),
    Column("queued_at", Float),
    Column("placed_at", Float),
    Column("evicted", Boolean, nullable=False, server_default=text("FALSE")),
    Column("parent", String(32), index=True),
    Column("image_name", String(512), nullable=False),
    Column("image_digest", String(80), index=True),
    Column("source_checkpoint", String(32), index=True),
    Column("started", Boolean, nullable=False),
    Column("cpu", Float, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("checkpoint_every_s", BigInteger),
    Column("applied", Boolean, nullable=False),
    Column("ports", Text),
    Column("networks", Text),
    Column("volumes", Text),
    Column("secrets", Text),
    Column("models", Text),
    Column("queue", String(63), nullable=False, server_default=text("'default'")),
    Column("owner", String(63), nullable=False, server_default=text("''")),
    Column("asks", Text),
    Column("labels", JSON, nullable=False),
    Column("checkpoints_numbered", Integer, nullable=False, server_default=text("0")),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("sandboxes_state", "state", "sequence"),
    Index(
        "sandboxes_living",
        "project",
        "sequence",
        sqlite_where=text(LIVING),
        postgresql_where=text(LIVING),
    ),
    Index(
        "sandboxes_promised",
        "node",
        "state",
        "cpu",
        "memory_bytes",
        sqlite_where=text(LIVING),
        postgresql_where=text(LIVING),
    ),
    Index("sandboxes_job", "job", sqlite_where=text(OF_JOBS), postgresql_where=text(OF_JOBS)),
    Index("sandboxes_service", "service", sqlite_where=text(OF_SERVICES), postgresql_where=text(OF_SERVICES)),
    Index("sandboxes_evicted", "state", sqlite_where=text(EVICTED), postgresql_where=text(EVICTED)),
    Index("sandboxes_unapplied", "sequence", sqlite_where=text(UNAPPLIED), postgresql_where=text(UNAPPLIED)),
    Index("sandboxes_publishing", "state", sqlite_where=text(PUBLISHING), postgresql_where=text(PUBLISHING)),
    Index("sandboxes_networked", "state", sqlite_where=text(NETWORKED), postgresql_where=text(NETWORKED)),
    Index("sandboxes_mounting", "state", sqlite_where=text(MOUNTING), postgresql_where=text(MOUNTING)),
    Index("sandboxes_secrets", "state", sqlite_where=text(WITH_SECRETS), postgresql_where=text(WITH_SECRETS)),
    Index("sandboxes_models", "state", sqlite_where=text(WITH_MODELS), postgresql_where=text(WITH_MODELS)),
    # A sandbox that is being deleted has given its name back already.
    Index(
        "sandboxes_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("state NOT IN ('deleting', 'deleted')"),
        postgresql_where=text("state NOT IN ('deleting', 'deleted')"),
    ),
    # The sequence is a page's key, so a number must never be given twice, even after pruning.
    sqlite_autoincrement=True,
)

stays = Table(
    "stays",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("sandbox", String(32), nullable=False),
    Column("node", String(32), nullable=False),
    Column("project", String(63), nullable=False),
    Column("owner", String(63), nullable=False),
    Column("queue", String(63), nullable=False),
    Column("job", String(32)),
    Column("cpu", Float, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("gpu_milli", BigInteger, nullable=False),
    Column("began_s", Float, nullable=False),
    Column("ended_s", Float),
    Column("evicted_s", Float),
    Index(
        "stays_open",
        "sandbox",
        unique=True,
        sqlite_where=text("ended_s IS NULL"),
        postgresql_where=text("ended_s IS NULL"),
    ),
    Index("stays_ended", "ended_s"),
    Index("stays_evicted", "evicted_s", sqlite_where=text(ASKED), postgresql_where=text(ASKED)),
    Index("stays_job", "job", sqlite_where=text(OF_JOBS), postgresql_where=text(OF_JOBS)),
    sqlite_autoincrement=True,
)
"""One row for each time a sandbox held a place, and as much as it held: what was used is summed up from these."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("sandbox", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("image_digest", String(80), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("sandbox", "number", name="checkpoints_number"),
    Index("checkpoints_state", "state", "sequence"),
    sqlite_autoincrement=True,
)

images = Table(
    "images",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(512), nullable=False),
    Column("state", String(16), nullable=False),
    Column("digest", String(80), index=True),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("images_state", "state", "sequence"),
    # A failed pull keeps its record for the reason, and not the name: pulling again must work.
    Index(
        "images_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("state IN ('creating', 'ready')"),
        postgresql_where=text("state IN ('creating', 'ready')"),
    ),
    sqlite_autoincrement=True,
)

operations = Table(
    "operations",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("target", String(32), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("at", Float, nullable=False),
    Column("noun", String(16), nullable=False),
    Column("target", String(32), nullable=False, index=True),
    Column("name", String(512), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("message", Text, nullable=False),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("last_used_at", Float),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "name", name="keys_name"),
    sqlite_autoincrement=True,
)

networks = Table(
    "networks",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "name", name="networks_name"),
    sqlite_autoincrement=True,
)

volumes = Table(
    "volumes",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("volumes_state", "state", "sequence"),
    # One that failed keeps its record for the reason, and not the name.
    Index(
        "volumes_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("state IN ('creating', 'ready', 'resizing')"),
        postgresql_where=text("state IN ('creating', 'ready', 'resizing')"),
    ),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("source", Text, nullable=False, index=True),
    Column("base", String(32)),
    Column("labels", JSON, nullable=False, server_default=text("'{}'")),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("models_state", "state", "sequence"),
    # One that failed keeps its record for the reason, and not the name.
    Index(
        "models_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("state IN ('creating', 'ready')"),
        postgresql_where=text("state IN ('creating', 'ready')"),
    ),
    sqlite_autoincrement=True,
)

secrets = Table(
    "secrets",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "name", name="secrets_name"),
    sqlite_autoincrement=True,
)

queues = Table(
    "queues",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("queue", String(63), nullable=False),
    Column("owner", String(63), nullable=False),
    Column("image_name", String(512), nullable=False),
    Column("volumes", Text),
    Column("secrets", Text),
    Column("models", Text),
    Column("network", String(63)),
    Column("labels", JSON, nullable=False),
    Column("tasks_made", Integer, nullable=False, server_default=text("0")),
    Column("forgotten", Boolean, nullable=False, server_default=false()),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("jobs_state", "state", "sequence"),
    Index("jobs_networked", "sequence", sqlite_where=text(NETWORK), postgresql_where=text(NETWORK)),
    Index("jobs_forgotten", "sequence", sqlite_where=text("forgotten"), postgresql_where=text("forgotten")),
    # One that has ended has given its name back.
    Index("jobs_name", "project", "name", unique=True, sqlite_where=text(GOING_ON), postgresql_where=text(GOING_ON)),
    sqlite_autoincrement=True,
)

notices = Table(
    "notices",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("job", String(32), nullable=False, index=True),
    Column("due_at", Float, nullable=False, index=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

tasks = Table(
    "tasks",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("job", String(32), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("members", Integer, nullable=False),
    Column("due_at", Float),
    Column("cancel", Text),
    Column("body", Text, nullable=False),
    UniqueConstraint("job", "number", name="tasks_number"),
    Index("tasks_state", "job", "state", "position"),
    Index(
        "tasks_going_on",
        "job",
        "state",
        "members",
        "position",
        sqlite_where=text(GOING_ON),
        postgresql_where=text(GOING_ON),
    ),
    Index("tasks_due", "due_at", sqlite_where=text(DUE), postgresql_where=text(DUE)),
    sqlite_autoincrement=True,
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("agent_socket", Text, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("marks", Text, nullable=False, server_default=text("'{}'")),
    Column("marked", BigInteger, nullable=False, server_default=text("0")),
)
