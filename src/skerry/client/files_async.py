"""`sandbox.files`: the files of a sandbox, or of one of its checkpoints (read only). On asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.client import copying
from skerry.client.calls import files as calls
from skerry.client.feed_async import AsyncFeed
from skerry.client.transport_async import AsyncStream, AsyncTransport
from skerry.errors import NotFound

if TYPE_CHECKING:
    from skerry.model.file import FileEvent, FileInfo


class AsyncCheckpointFiles:
    """What can be asked of files that never change."""

    def __init__(self, transport: AsyncTransport, base: str) -> None:
        self._transport = transport
        self._base = base

    async def read(self, path: str) -> bytes:
        return b"".join([chunk async for chunk in self.stream(path)])

    async def read_text(self, path: str, encoding: str = "utf-8") -> str:
        return (await self.read(path)).decode(encoding)

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """A file's content in chunks, for files larger than memory."""
        async with await self._transport.stream(calls.read(self._base, path)) as stream:
            async for chunk in stream:
                yield chunk

    async def list(self, path: str = "/", depth: int = 1) -> list[FileInfo]:
        return (await self._transport.send(calls.list_all(self._base, path, depth))).items

    async def stat(self, path: str) -> FileInfo:
        return await self._transport.send(calls.stat(self._base, path))

    async def exists(self, path: str) -> bool:
        try:
            await self._transport.json(calls.stat(self._base, path))
        except NotFound:
            return False
        return True

    async def download(self, remote: str, local: str | os.PathLike[str], *, all_links: bool = False) -> int:
        """Copy a file or tree to this machine by the rules of `docker cp`; returns how many files came.

        Links that point out of the copied tree are left out unless `all_links`.
        """
        place = copying.download_place(os.fspath(local), remote)
        async with await self._transport.stream(calls.read_archive(self._base, copying.archive_path(remote))) as stream:
            return await _unpacked(stream, place, all_links)


class AsyncFiles(AsyncCheckpointFiles):
    async def write(
        self,
        path: str,
        content: str | bytes | Iterable[bytes] | AsyncIterable[bytes],
        *,
        mode: str | None = None,
        parents: bool = True,
    ) -> FileInfo:
        """Make or replace one file; `parents` makes the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        return await self._transport.send(calls.write(self._base, path, data, mode=mode, parents=parents))

    async def mkdir(self, path: str, *, parents: bool = True, mode: str = "0755") -> FileInfo:
        return await self._transport.send(calls.mkdir(self._base, path, parents=parents, mode=mode))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        await self._transport.json(calls.remove(self._base, path, recursive))

    async def rename(self, source: str, target: str) -> FileInfo:
        return await self._transport.send(calls.rename(self._base, source, target))

    async def watch(self, path: str, *, recursive: bool = False) -> AsyncFeed[FileEvent]:
        """Changes below `path` from now on; what happens after this returns is not missed."""
        call = calls.watch(self._base, path, recursive)
        return await AsyncFeed(await self._transport.stream(call), call.parse).started()

    async def upload(self, local: str | os.PathLike[str], remote: str, *, follow: bool = False) -> int:
        """Copy a file or tree into the sandbox by the rules of `docker cp`; returns how many files went."""
        path = Path(local)
        upload = copying.plan_upload(
            os.fspath(local), remote, await self._transport.run(copying.remote_kind(self._base, remote))
        )
        data = copying.pack(path, upload.name, follow=follow)
        answer: Any = await self._transport.json(calls.write_archive(self._base, upload.folder, data))
        return int(answer["files"])


async def _unpacked(stream: AsyncStream, place: tuple[Path, str], all_links: bool) -> int:
    """Writing files blocks, so a thread does it, and asks the event loop for each next piece."""
    loop = asyncio.get_running_loop()

    def chunks() -> Iterator[bytes]:
        while chunk := asyncio.run_coroutine_threadsafe(stream.read_some(), loop).result():
            yield chunk

    return (await asyncio.to_thread(copying.unpack, chunks(), *place, all_links=all_links)).files
