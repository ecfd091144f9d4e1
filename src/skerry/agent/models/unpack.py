"""A model that came as an archive: its files, each checked and kept once as if it had come alone.

In one pass, and never by what the archive says of itself alone: names that lead out, links and devices are refused, and
what would be too large is noticed while it is written. The archive itself is not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

from skerry.agent.images.progress import Progress, Step
from skerry.agent.models.cache import ModelCache
from skerry.agent.models.sources.contract import FILES_MAX, Listed, checked
from skerry.errors import Failed, Invalid, TooLarge
from skerry.model.amounts import format_size
from skerry.model.weights import ARCHIVES, ModelFile

CHUNK_BYTES = 4 * 1024 * 1024
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError)
Entry = tuple[str, int, Callable[[], IO[bytes]]]
"""Name, size and how to read it."""


def is_archive(file: ModelFile) -> bool:
    return file.path.lower().endswith(ARCHIVES)


async def unpack(
    cache: ModelCache, archive: ModelFile, size_bytes_max: int, held: set[str], tell: Progress
) -> list[ModelFile]:
    """`held`: of the cache. Raises Invalid, TooLarge, NoRoom or Failed."""
    folder = Path(tempfile.mkdtemp(prefix="unpack-", dir=cache.unfinished))
    held.add(folder.name)
    leave = threading.Event()
    work = asyncio.ensure_future(
        asyncio.to_thread(lambda: _Unpacking(cache, folder, size_bytes_max, held, tell, leave).run(archive))
    )
    try:
        files = await asyncio.shield(work)
    finally:
        leave.set()
        await asyncio.wait([work])
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    held.discard(archive.sha256)
    cache.drop(archive.sha256)
    return files


class _Unpacking:
    def __init__(
        self,
        cache: ModelCache,
        folder: Path,
        size_bytes_max: int,
        held: set[str],
        tell: Progress,
        leave: threading.Event,
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._size_bytes_max = size_bytes_max
        self._held = held
        self._tell = tell
        self._leave = leave
        self._done_bytes = 0

    def run(self, archive: ModelFile) -> list[ModelFile]:
        path = self._cache.path_of(archive)
        entries = _zipped if archive.path.lower().endswith(".zip") else _tarred
        made: list[ModelFile] = []
        try:
            for name, size_bytes, opened in entries(path):
                if len(made) >= FILES_MAX:
                    raise TooLarge(f"{archive.path} has more than {FILES_MAX} files")
                made.append(self._take(name, size_bytes, opened))
        except BROKEN as error:
            raise Failed(f"{archive.path} is no archive that can be read", because=repr(error)) from None
        listed = [Listed(file.path, file.size_bytes, None, file.sha256) for file in _without_top(made)]
        files = checked(listed, self._size_bytes_max)
        return [ModelFile(path=file.path, size_bytes=file.size_bytes, sha256=file.identity) for file in files]

    def _take(self, name: str, size_bytes: int, opened: Callable[[], IO[bytes]]) -> ModelFile:
        if self._done_bytes + size_bytes > self._size_bytes_max:
            raise TooLarge(f"unpacked it is more than {format_size(self._size_bytes_max)}, which is what is allowed")
        self._cache.expect(size_bytes)
        found, target, left = hashlib.sha256(), self._folder / "file", size_bytes
        with opened() as source, target.open("wb") as file:
            while left:
                if self._leave.is_set():
                    raise Failed("whoever wanted it has left")
                data = source.read(min(CHUNK_BYTES, left))
                if not data:
                    raise EOFError
                file.write(data)
                found.update(data)
                left -= len(data)
                self._done_bytes += len(data)
                self._tell(Step.UNPACK, self._done_bytes, None)
        self._held.add(found.hexdigest())
        self._cache.take(target, found.hexdigest())
        return ModelFile(path=name, size_bytes=size_bytes, sha256=found.hexdigest())


def _tarred(path: Path) -> Generator[Entry]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isdir() or _is_noise(member.name):
                continue
            if not member.isreg():
                raise Invalid(f"{member.name[:100]!r} in the archive is a link or no plain file")
            data = archive.extractfile(member)
            assert data is not None
            yield _plain(member.name), member.size, lambda data=data: data


def _zipped(path: Path) -> Generator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir() or _is_noise(member.filename):
                continue
            kind = member.external_attr >> 28
            if kind not in (0, 0o10):
                raise Invalid(f"{member.filename[:100]!r} in the archive is a link or no plain file")
            yield _plain(member.filename), member.file_size, lambda member=member: archive.open(member)


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _is_noise(name: str) -> bool:
    """What macOS and tar put beside the files."""
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith("._")


def _without_top(files: list[ModelFile]) -> list[ModelFile]:
    """Without the one folder that many archives put around everything."""
    tops = {file.path.partition("/")[0] for file in files}
    if len(tops) != 1 or any("/" not in file.path for file in files):
        return files
    return [file.model_copy(update={"path": file.path.partition("/")[2]}) for file in files]
