"""A folder of this machine, or of a volume in which a guest may be at work: copied, and no link in it followed."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.agent.files.openat2 import Fd, open_folder, open_regular
from skerry.agent.models.sources.contract import DEPTH_MAX, FILES_MAX, Listed, Listing
from skerry.errors import Failed, Invalid, NotFound, TooLarge

CHUNK_BYTES = 1024 * 1024


class Folder:
    def __init__(self, root: Path, inside: str, title: str) -> None:
        """`root`: a folder that is known to be ours or shared; `inside`: a path in it, whose names may be hostile."""
        self._root = root
        self._inside = inside.strip("/")
        self.name = title

    def _open(self, path: str = "") -> Fd:
        whole = "/".join(part for part in (self._inside, path) if part) or "."
        with Fd(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            return open_folder(root.fileno(), whole)

    async def list(self) -> Listing:
        return Listing(tuple(await asyncio.to_thread(self._walk)))

    def _walk(self) -> list[Listed]:
        found: list[Listed] = []
        folders = [""]
        while folders:
            above = folders.pop()
            try:
                folder = self._open(above)
            except OSError as error:
                raise NotFound(
                    f"{self.name}: {above or 'it'} is no folder ({error.strerror})", field="source"
                ) from None
            with folder:
                for name in sorted(os.listdir(folder.fileno())):
                    path = f"{above}/{name}".lstrip("/")
                    at = os.stat(name, dir_fd=folder.fileno(), follow_symlinks=False)
                    if stat.S_ISDIR(at.st_mode):
                        if path.count("/") >= DEPTH_MAX:
                            raise TooLarge(f"{self.name} is more than {DEPTH_MAX} folders deep")
                        folders.append(path)
                    elif not stat.S_ISREG(at.st_mode):
                        raise Invalid(f"{self.name}: {path} is a link or no plain file; put the file itself there")
                    else:
                        identity = f"{at.st_dev} {at.st_ino} {at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}"
                        found.append(Listed(path, at.st_size, None, identity))
            if len(found) + len(folders) > FILES_MAX:
                raise TooLarge(f"{self.name} has more than {FILES_MAX} files")
        return found

    @asynccontextmanager
    async def read(self, file: Listed, start: int, end: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        above, _, name = file.path.rpartition("/")
        try:
            with self._open(above) as folder:
                opened = open_regular(folder.fileno(), name)
        except OSError as error:
            raise Failed(f"{self.name}: {file.path}: {error.strerror}") from None
        if opened is None:
            raise Failed(f"{self.name}: {file.path} has changed meanwhile")
        with opened:
            yield self._chunks(opened, start, end)

    async def _chunks(self, opened: Fd, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            chunk = await asyncio.to_thread(os.pread, opened.fileno(), min(CHUNK_BYTES, end - start), start)
            if not chunk:
                return
            start += len(chunk)
            yield chunk
