"""A PostgreSQL of the tests' own: a fresh cluster on a unix socket in a folder, without fsync, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = "apt-get install -y --no-install-recommends postgresql"
OPTIONS = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60"


def binaries() -> Path:
    """Fails with the command that installs it: a skipped test would prove nothing about PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, f"PostgreSQL is missing; run: {INSTALL}"
    return found[-1].parent


@contextmanager
def cluster() -> Iterator[str]:
    """Yields the SQLAlchemy URL, without a database name, of a server that runs as the user postgres."""
    where = binaries()
    folder = Path(tempfile.mkdtemp(prefix="skerry-pg-", dir="/var/tmp"))
    shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    try:
        _as_postgres(str(where / "initdb"), "-D", str(data), "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        start = (str(where / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"))
        _as_postgres(*start, "-o", f"{OPTIONS} -k {folder}", "start")
        try:
            yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
        finally:
            _as_postgres(str(where / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_database(url: str, name: str) -> str:
    folder = url.rpartition("host=")[2]
    _as_postgres(str(binaries() / "createdb"), "-h", folder, name)
    return url.format(name)


def _as_postgres(*command: str) -> None:
    words = ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
