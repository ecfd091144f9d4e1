"""What members of jobs have printed, kept when their sandboxes go, until their job is deleted or there is too much."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from skerry.errors import Invalid

NAME = re.compile(r"job-[0-9a-f]{12}/\d{1,9}-\d{1,9}-\d{1,4}")
JOB = re.compile(r"job-[0-9a-f]{12}")
ROOM_SHARE = 0.1
"""Of the limit, made free at one time: finding the oldest means reading the folders' times."""


def check_name(name: str) -> None:
    """JOB/INDEX-ATTEMPT-RANK: it becomes a path."""
    if not NAME.fullmatch(name):
        raise Invalid("keep_log: expected JOB/INDEX-ATTEMPT-RANK", field="keep_log")


class KeptLogs:
    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._bytes: int | None = None
        """Of all that is kept; None: not counted yet."""
        self._lock = asyncio.Lock()

    def path(self, name: str) -> Path:
        check_name(name)
        return self._folder / name

    async def keep(self, source: Path, name: str) -> None:
        """Repeated, it changes nothing."""
        async with self._lock:
            await asyncio.to_thread(self._keep, source, self.path(name))

    async def forget(self, job: str) -> None:
        if not JOB.fullmatch(job):
            raise Invalid("job: expected the id of a job", field="job")
        async with self._lock:
            await asyncio.to_thread(shutil.rmtree, self._folder / job, ignore_errors=True)
            self._bytes = None

    def _keep(self, source: Path, target: Path) -> None:
        if not source.is_dir() or target.exists():
            return
        if self._bytes is None:
            self._bytes = _bytes_in(self._folder)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.rename(target)
        self._bytes += _bytes_in(target)
        if self._bytes > self._bytes_max:
            self._make_room()

    def _make_room(self) -> None:
        assert self._bytes is not None
        oldest = sorted(self._folder.glob("*/*"), key=lambda path: path.stat().st_mtime)
        while oldest and self._bytes > self._bytes_max * (1 - ROOM_SHARE):
            gone = oldest.pop(0)
            self._bytes -= _bytes_in(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
