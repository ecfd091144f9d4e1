"""The tables of services, their revisions, tokens, use, limits and traffic."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from skerry.store.tables import COUNTER, metadata

HERE = "state NOT IN ('deleting', 'deleted')"
GOOD = "NOT revoked"

services = Table(
    "services",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("image_name", String(512)),
    Column("volumes", Text),
    Column("secrets", Text),
    Column("labels", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("services_state", "state", "sequence"),
    Index("services_name", "project", "name", unique=True, sqlite_where=text(HERE), postgresql_where=text(HERE)),
    sqlite_autoincrement=True,
)

service_revisions = Table(
    "service_revisions",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("service", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("service", "number", name="revisions_number"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("revoked", Boolean, nullable=False, server_default=false()),
    Column("used_at", Float),
    Column("spent", BigInteger, nullable=False, server_default=text("0")),
    Column("body", Text, nullable=False),
    # One that was revoked has given its name back.
    Index("tokens_name", "project", "name", unique=True, sqlite_where=text(GOOD), postgresql_where=text(GOOD)),
    sqlite_autoincrement=True,
)

usage = Table(
    "usage",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("service", String(63), nullable=False),
    Column("model", String(128), nullable=False),
    Column("client", String(63), nullable=False),
    Column("hour_s", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False, server_default=text("0")),
    Column("errors", BigInteger, nullable=False, server_default=text("0")),
    Column("prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("cached_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("seconds", Float, nullable=False, server_default=text("0")),
    UniqueConstraint("project", "service", "model", "client", "hour_s", name="usage_of"),
    sqlite_autoincrement=True,
)

usage_reports = Table(
    "usage_reports",
    metadata,
    Column("gateway", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False, index=True),
)
"""Those that have been counted."""

taken = Table(
    "taken",
    metadata,
    Column("client", String(32), primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)
"""What gateways have been given of a token's limits in one minute of the clock."""

held = Table(
    "held",
    metadata,
    Column("client", String(32), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("concurrency", Integer, nullable=False),
    Column("until_s", Float, nullable=False),
)
"""How many requests at once of a token each gateway may have, as long as it says so."""

set_aside = Table(
    "set_aside",
    metadata,
    Column("client", String(32), primary_key=True),
    Column("gateway", String(64), primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("until_s", Float, nullable=False),
)
"""Tokens of a token's budget that each gateway may still use, or has used and not told."""

traffic_reports = Table(
    "traffic_reports",
    metadata,
    Column("sequence", COUNTER, primary_key=True, autoincrement=True),
    Column("control", String(32), nullable=False),
    Column("at_s", Float, nullable=False, index=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""What gateways told one control program lately, for the others to read."""
