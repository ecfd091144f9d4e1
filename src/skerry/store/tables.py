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
    text,
)

metadata = MetaData()

# SQLite only counts up by itself in a column of type INTEGER.
_COUNTER = BigInteger().with_variant(Integer, "sqlite")

LIVING = "state <> 'deleted'"
"""Spelled out in queries too, and not as a parameter: only so can SQLite see that a partial index serves them. Under
load there are a hundred tombstones to one living row."""

UNAPPLIED = "NOT applied"

PUBLISHING = "ports IS NOT NULL"

NETWORKED = "networks IS NOT NULL"

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("node", String(32)),
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
    Index("sandboxes_unapplied", "sequence", sqlite_where=text(UNAPPLIED), postgresql_where=text(UNAPPLIED)),
    Index("sandboxes_publishing", "state", sqlite_where=text(PUBLISHING), postgresql_where=text(PUBLISHING)),
    Index("sandboxes_networked", "state", sqlite_where=text(NETWORKED), postgresql_where=text(NETWORKED)),
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

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
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
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
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
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
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
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
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
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
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
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "name", name="networks_name"),
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
)
