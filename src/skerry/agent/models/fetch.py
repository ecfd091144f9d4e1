"""One file from its place to the cache: in parts, several at once, each written down when it is on the disk, so that
whoever comes after a crash fetches only what is missing; then read once more and checked.

    unfinished/KEY/data    as long as the file will be, with holes
    unfinished/KEY/parts   numbers of the parts that are there
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.agent.images.progress import Progress, SharedWork, Step, ended
from skerry.agent.models.cache import ModelCache
from skerry.agent.models.sources.contract import Check, Form, Listed, NoRanges, Source
from skerry.errors import Failed, Unavailable
from skerry.model.weights import ModelFile

MIB = 1024**2
WRITE_BYTES = 1 * MIB
READ_BYTES = 8 * MIB
PAUSE_S_MAX = 30.0


@dataclass(frozen=True)
class FetchLimits:
    part_bytes: int = 32 * MIB
    """Of one request: what a crash costs of each connection at most."""
    connections: int = 8
    """Of this machine at once, over all pulls."""
    tries: int = 6
    """In a row, of which none brought a byte."""
    pause_s: float = 0.5
    """After the first of them; each is twice as long."""
    damaged: int = 2
    """Times that a file may arrive and not be what it should."""


class Fetcher:
    def __init__(self, cache: ModelCache, limits: FetchLimits) -> None:
        self._cache = cache
        self._limits = limits
        self._seats = asyncio.Semaphore(limits.connections)
        self._shared: SharedWork[ModelFile] = SharedWork()

    async def close(self) -> None:
        await self._shared.close()

    async def fetch(self, source: Source, file: Listed, tell: Progress) -> ModelFile:
        """Those who want the same file at one time share one download."""
        if file.check is not None and file.check.form is Form.SHA256 and self._cache.has(file.check.digest):
            return ModelFile(path=file.path, size_bytes=file.size_bytes, sha256=file.check.digest)
        key = key_of(file)
        found = await self._shared.join(key, lambda told: self._fetch(source, file, key, told), tell)
        return found.model_copy(update={"path": file.path})

    async def _fetch(self, source: Source, file: Listed, key: str, tell: Progress) -> ModelFile:
        folder = self._cache.unfinished / key
        for _ in range(self._limits.damaged):
            download = _Download(folder, file, self._limits, self._seats, tell)
            try:
                download.open()
                self._cache.expect(file.size_bytes - download.done_bytes)
                await download.run(source)
                sha256 = await download.check()
            finally:
                download.close()
            if sha256 is not None:
                self._cache.take(download.data, sha256)
                shutil.rmtree(folder, ignore_errors=True)
                return ModelFile(path=file.path, size_bytes=file.size_bytes, sha256=sha256)
            shutil.rmtree(folder, ignore_errors=True)
        raise Failed(f"{file.path} arrives from {source.name} and is not what its digest says: it is damaged there")


def key_of(file: Listed) -> str:
    """A name for what is on its way: where its digest is known the same, wherever it comes from."""
    if file.check is not None and file.check.form is Form.SHA256:
        return hashlib.sha256(f"sha256 {file.check.digest}".encode()).hexdigest()
    return hashlib.sha256(f"{file.identity} {file.size_bytes} {file.path}".encode()).hexdigest()


class _Download:
    def __init__(
        self, folder: Path, file: Listed, limits: FetchLimits, seats: asyncio.Semaphore, tell: Progress
    ) -> None:
        self._folder = folder
        self._file = file
        self._limits = limits
        self._seats = seats
        self._tell = tell
        self._count = -(-file.size_bytes // limits.part_bytes)
        self._done: set[int] = set()
        self._fd = -1
        self.data = folder / "data"
        self.done_bytes = 0

    def open(self) -> None:
        """What an earlier one has left is taken up."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        whole = self.data.exists() and self.data.stat().st_size == self._file.size_bytes
        if not whole:
            self._parts.unlink(missing_ok=True)
        self._fd = os.open(self.data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.ftruncate(self._fd, self._file.size_bytes)
        lines = self._parts.read_text().split("\n")[:-1] if self._parts.exists() else []
        same_form, *numbers = lines or [""]
        if same_form == str(self._limits.part_bytes):
            self._done = {int(line) for line in numbers if line.isdigit() and int(line) < self._count}
        else:
            self._parts.write_text(f"{self._limits.part_bytes}\n")
        self.done_bytes = sum(self._end(number) - self._start(number) for number in self._done)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def _parts(self) -> Path:
        return self._folder / "parts"

    def _start(self, number: int) -> int:
        return number * self._limits.part_bytes

    def _end(self, number: int) -> int:
        return min(self._start(number) + self._limits.part_bytes, self._file.size_bytes)

    async def run(self, source: Source) -> None:
        self._told()
        missing = [number for number in range(self._count) if number not in self._done]
        try:
            await _all(self._part(source, missing) for _ in range(min(len(missing), self._limits.connections)))
        except NoRanges:
            self.done_bytes = 0
            async with self._seats:
                await self._read(source, 0, self._file.size_bytes, resumes=False)
            await self._written(*range(self._count))

    async def _part(self, source: Source, missing: list[int]) -> None:
        while missing:
            number = missing.pop(0)
            async with self._seats:
                await self._read(source, self._start(number), self._end(number))
            await self._written(number)

    async def _read(self, source: Source, start: int, end: int, *, resumes: bool = True) -> None:
        """Again and again from where it broke off, while that gets us further."""
        failures, at = 0, start
        while at < end:
            began = at
            try:
                async with source.read(self._file, at, end) as chunks:
                    buffer = bytearray()
                    async for chunk in chunks:
                        buffer += chunk
                        if len(buffer) >= WRITE_BYTES:
                            at = await self._write(buffer, at)
                            buffer = bytearray()
                    at = await self._write(buffer, at)
                if at < end:
                    raise Unavailable(f"{source.name} ends {self._file.path} too early")
            except Unavailable as error:
                failures = failures + 1 if at == began else 1
                if failures >= self._limits.tries:
                    raise
                if not resumes:
                    self.done_bytes -= at - start
                    at = start
                pause_s = self._limits.pause_s * 2 ** (failures - 1)
                await asyncio.sleep(min(max(pause_s, 0.0), PAUSE_S_MAX, max(error.retry_after_s or 0.0, pause_s)))

    async def _write(self, data: bytearray, at: int) -> int:
        if data:
            await asyncio.to_thread(_write_at, self._fd, data, at)
            self.done_bytes += len(data)
            self._told()
        return at + len(data)

    async def _written(self, *numbers: int) -> None:
        """On the disk first, then said to be: after a power cut, too, no hole is taken for a part."""
        await asyncio.to_thread(os.fdatasync, self._fd)
        with self._parts.open("a") as parts:
            parts.write("".join(f"{number}\n" for number in numbers))

    def _told(self) -> None:
        self._tell(Step.DOWNLOAD, min(self.done_bytes, self._file.size_bytes), self._file.size_bytes)

    async def check(self) -> str | None:
        """Its sha256. None: it is not what it should be."""
        sums = {Form.SHA256: hashlib.sha256()}
        asked = self._file.check
        if asked is not None and asked.form is Form.MD5:
            sums[Form.MD5] = hashlib.md5(usedforsecurity=False)
        if asked is not None and asked.form is Form.GIT:
            sums[Form.GIT] = hashlib.sha1(f"blob {self._file.size_bytes}\0".encode(), usedforsecurity=False)
        at = 0
        while at < self._file.size_bytes:
            data = await asyncio.to_thread(os.pread, self._fd, READ_BYTES, at)
            if not data:
                return None
            for each in sums.values():
                await asyncio.to_thread(each.update, data)
            at += len(data)
        return sums[Form.SHA256].hexdigest() if _fits(asked, {form: sums[form].hexdigest() for form in sums}) else None


def _fits(asked: Check | None, found: dict[Form, str]) -> bool:
    return asked is None or found[asked.form] == asked.digest.lower()


def _write_at(fd: int, data: bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them; the first failure ends the others and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            await ended(task)
