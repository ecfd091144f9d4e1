"""The same tests on SQLite and on PostgreSQL: `store` is each of them in turn."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skerry.store.store import Store
from tests.store.postgres import cluster, create_database

_numbers = itertools.count()


class StillClock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/skerry.db"
    return create_database(request.getfixturevalue("postgres_url"), f"skerry_{next(_numbers)}")


@pytest.fixture
async def store(database_url: str, clock: StillClock) -> AsyncIterator[Store]:
    made = Store(database_url, clock)
    await made.open()
    yield made
    await made.close()
