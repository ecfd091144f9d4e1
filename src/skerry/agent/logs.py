"""Output of a sandbox's main process and of its services, kept on disk: rotated by size, compressed, so many kept."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from skerry.agent.kept_logs import KeptLogs

CHUNK_BYTES = 64 * 1024
TAIL_LINES_MAX = 100_000


class OutputLog:
    """One sandbox's log. Writes come from the event loop and go to the page cache; compressing is a thread's work."""

    def __init__(self, folder: Path, *, bytes_max: int, keep: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._keep = keep
        self._grew = asyncio.Event()
        self._packing: set[asyncio.Task[None]] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file: int | None = None
        self._size = 0
        self._ended = False

    def _path(self) -> Path:
        return self._folder / "current.log"

    def end(self) -> None:
        """Whoever writes it has ended, with all written: who follows until then has seen everything."""
        self._ended = True
        self._wake()

    def write(self, data: bytes) -> None:
        self._ended = False
        if self._file is None:
            self._file = os.open(self._path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._file).st_size
        try:
            os.write(self._file, data)
        except OSError:
            # A full host disk must not stop the sandbox: its newest output is lost instead, and the next line tells.
            return
        self._size += len(data)
        if self._size >= self._bytes_max:
            self._rotate()
        self._wake()

    def _wake(self) -> None:
        grew, self._grew = self._grew, asyncio.Event()
        grew.set()

    def _rotate(self) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file = None
        full = self._folder / f"{self._next_number():08d}.log"
        self._path().rename(full)
        task = asyncio.ensure_future(asyncio.to_thread(self._pack, full))
        self._packing.add(task)
        task.add_done_callback(self._packing.discard)

    def _pack(self, full: Path) -> None:
        packed = full.with_suffix(".gz")
        scratch = full.with_suffix(".part")
        with full.open("rb") as source, gzip.open(scratch, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        scratch.rename(packed)
        full.unlink(missing_ok=True)  # one that was packed sooner may have counted it among the oldest
        rotated = sorted(self._rotated(), key=_number)
        for old in rotated[: max(0, len(rotated) - self._keep)]:
            old.unlink(missing_ok=True)

    def _next_number(self) -> int:
        """What the file that is written now will be called by."""
        return max((_number(path) for path in self._rotated()), default=0) + 1

    def _rotated(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.stem.isdigit() and path.suffix in (".log", ".gz")]

    def _history(self, numbers: range) -> Iterator[bytes]:
        """Of these files, each once, whatever is packed meanwhile."""
        for number in sorted({_number(path) for path in self._rotated()}):
            file = self._open_rotated(number) if number in numbers else None
            if file is None:
                continue
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def _open_rotated(self, number: int) -> BinaryIO | None:
        """None: it was among the oldest, and is gone."""
        path = self._folder / f"{number:08d}.log"
        try:
            return path.open("rb")
        except FileNotFoundError:
            pass  # packed, of which its name goes last
        try:
            return cast(BinaryIO, gzip.open(path.with_suffix(".gz"), "rb"))
        except FileNotFoundError:
            return None

    def _tail(self, newest: int, size: int, number: int, lines: int) -> bytes:
        """The last `lines` lines up to `size` bytes of the file `newest`, which will be called `number`."""
        kept = _last_lines(os.pread(newest, size, 0), lines)
        if kept.count(b"\n") < lines:
            older = b"".join(self._history(range(number)))  # at most keep * bytes_max, and only when that is too short
            kept = _last_lines(older + kept, lines)
        return kept

    async def read(self, *, follow: bool, tail: int | None, until_end: bool = False) -> AsyncIterator[bytes]:
        """Everything kept (or the last `tail` lines), then with `follow` whatever comes: for ever, or `until_end`."""
        number, file = self._open_newest()
        try:
            if tail is None:
                async for chunk in self._older(range(number)):
                    yield chunk
            else:
                size = os.lseek(file, 0, os.SEEK_END)
                if tail > 0:
                    yield await asyncio.to_thread(self._tail, file, size, number, min(tail, TAIL_LINES_MAX))
            while True:
                grew, ended = self._grew, self._ended
                while chunk := os.read(file, CHUNK_BYTES):
                    yield chunk
                if follow and self._replaced(file):
                    os.close(file)
                    missed = number + 1
                    number, file = self._open_newest()
                    # Whoever reads slowly may have missed whole files: they are read where they lie now.
                    async for chunk in self._older(range(missed, number)):
                        yield chunk
                    continue
                if not follow or (until_end and ended):
                    return
                await grew.wait()
        finally:
            os.close(file)

    def _open_newest(self) -> tuple[int, int]:
        """The file that is written now, and what it will be called."""
        return self._next_number(), os.open(self._path(), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _older(self, numbers: range) -> AsyncIterator[bytes]:
        history = self._history(numbers)
        while chunk := await asyncio.to_thread(next, history, b""):
            yield chunk

    def _replaced(self, file: int) -> bool:
        try:
            return os.fstat(file).st_ino != self._path().stat().st_ino
        except FileNotFoundError:
            return self._folder.exists()  # else it was kept elsewhere or removed, and this is all

    async def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self.end()
        await asyncio.gather(*self._packing, return_exceptions=True)


class OutputLogs:
    """The logs of all sandboxes of this machine, each opened when first written or read. A key may be a path of two
    parts, SANDBOX/SERVICE: then removing the sandbox removes those of its services."""

    def __init__(self, folder: Path, *, bytes_max: int, keep: int, kept: KeptLogs | None = None) -> None:
        """`kept`: where those go that are to outlive their sandboxes."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._keep = keep
        self._kept = kept
        self._open: dict[str, OutputLog] = {}

    def of(self, sandbox_id: str) -> OutputLog:
        if sandbox_id not in self._open:
            folder = self._folder / sandbox_id
            self._open[sandbox_id] = OutputLog(folder, bytes_max=self._bytes_max, keep=self._keep)
        return self._open[sandbox_id]

    async def remove(self, sandbox_id: str, keep_as: str | None = None) -> None:
        for key in [key for key in self._open if key == sandbox_id or key.startswith(f"{sandbox_id}/")]:
            await self._open.pop(key).close()
        if keep_as is not None and self._kept is not None:
            await self._kept.keep(self._folder / sandbox_id, keep_as)
        await asyncio.to_thread(shutil.rmtree, self._folder / sandbox_id, ignore_errors=True)

    async def close(self) -> None:
        for opened in self._open.values():
            await opened.close()
        self._open.clear()


def _number(path: Path) -> int:
    return int(path.stem)


def _last_lines(data: bytes, lines: int) -> bytes:
    end = len(data)
    position = end - 1 if data.endswith(b"\n") else end
    for _ in range(lines):
        position = data.rfind(b"\n", 0, position)
        if position < 0:
            return data
    return data[position + 1 :]
