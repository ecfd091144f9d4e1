"""One database behind two ways in, `reading` and `writing`, so that SQLite and PostgreSQL keep the same promises.

Durability: SQLite runs in WAL with synchronous=FULL, which survives power loss and not only a killed process; on a
virtual disk here that is 0.31 ms a commit against 0.013 ms without (300 commits each), and a create has three.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from skerry.errors import Conflict, Failed, Invalid, SkerryError, Unavailable
from skerry.store import sqlite

_BEGIN = text("BEGIN IMMEDIATE")

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another process's lock before it is an error."""
SWITCHES_MAX, SWITCH_PAUSE_S = 50, 0.02
"""Tries to switch a new database over, which takes the other program some milliseconds."""
READERS_MAX = 4
CONNECTIONS_MAX = 10
CHECKOUT_S_MAX = 30.0

FROM_SQLALCHEMY: dict[type[exc.SQLAlchemyError], tuple[type[SkerryError], str]] = {
    exc.IntegrityError: (Conflict, "someone else changed this at the same moment; look, then try again"),
    exc.DataError: (Invalid, "something given here holds a character or a number that the database cannot hold"),
    exc.OperationalError: (Unavailable, "the database does not answer; try again"),
    exc.TimeoutError: (Unavailable, "the database is busy; try again"),
    exc.DBAPIError: (Failed, "the database refused this"),
    exc.SQLAlchemyError: (Failed, "the database could not be used"),
}


def translate(error: exc.SQLAlchemyError) -> SkerryError:
    """The most specific entry of the table wins."""
    for kind in type(error).__mro__:
        if kind in FROM_SQLALCHEMY:
            made, say = FROM_SQLALCHEMY[kind]
            return made(say, because=str(error), retry_after_s=1 if made is Unavailable else None)
    raise AssertionError("every SQLAlchemyError is in the table")


class Database:
    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            # SQLite has one writer at a time: writers of this process queue for one connection, first come first
            # served, and never meet "database is locked"; readers see the last commit and wait for nobody.
            self._writer = _sqlite_engine(url, connections_max=1)
            self._reader = _sqlite_engine(url, connections_max=READERS_MAX)
        else:
            self._writer = _postgres_engine(url, autocommit=False)
            self._reader = _postgres_engine(url, autocommit=True)

    async def close(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        try:
            async with self._reader.connect() as connection:
                yield connection
        except exc.SQLAlchemyError as error:
            raise translate(error) from error

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """Commits at the end of the block, rolls back when it raises. No waiting for a network inside."""
        try:
            async with self._writer.connect() as connection:
                if self.is_sqlite:
                    # At once a writer: a reader that becomes one later can find its snapshot outdated.
                    await connection.execute(_BEGIN)
                try:
                    yield connection
                    await connection.commit()
                except BaseException:
                    await connection.rollback()
                    raise
        except exc.SQLAlchemyError as error:
            raise translate(error) from error


# Readers see one statement at a time, since nothing of ours needs two statements to agree; so they need no transaction,
# and the rollback at the end of each, which costs a round trip to a thread or a server, is left out.


def _postgres_engine(url: str, *, autocommit: bool) -> AsyncEngine:
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if autocommit else {}
    return create_async_engine(
        url,
        pool_size=CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=CHECKOUT_S_MAX,
        pool_pre_ping=True,
        **options,
    )


def _sqlite_engine(url: str, connections_max: int) -> AsyncEngine:
    path = make_url(url).database
    if not path or path == ":memory:":
        raise Invalid("database_url: SQLite needs a file, such as sqlite+aiosqlite:////var/lib/skerry/skerry.db")

    async def connect_to_file() -> sqlite.Connection:
        return await sqlite.connect(path, BUSY_TIMEOUT_S)

    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=CHECKOUT_S_MAX,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT" if connections_max > 1 else None,
        skip_autocommit_rollback=connections_max > 1,
        async_creator=connect_to_file,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        cursor = connection.cursor()
        _write_ahead(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _write_ahead(cursor: Any) -> None:
    """Two programs that open a new database at once both switch it over, and SQLite lets the second not wait for the
    first, as it does for any other lock: https://sqlite.org/wal.html."""
    for left in reversed(range(SWITCHES_MAX)):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(SWITCH_PAUSE_S)
