"""`sandbox.files`: the files of a sandbox, or of one of its checkpoints (read only). Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry.client import copying
from skerry.client.calls import files as calls
from skerry.client.feed import Feed
from skerry.client.transport import Transport
from skerry.errors import NotFound

if TYPE_CHECKING:
    from skerry.model.file import FileEvent, FileInfo


class CheckpointFiles:
    """What can be asked of files that never change."""

    def __init__(self, transport: Transport, base: str) -> None:
        self._transport = transport
        self._base = base

    def read(self, path: str) -> bytes:
        return b"".join(self.stream(path))

    def read_text(self, path: str, encoding: str = "utf-8") -> str:
        return self.read(path).decode(encoding)

    def stream(self, path: str) -> Iterator[bytes]:
        """A file's content in chunks, for files larger than memory."""
        with self._transport.stream(calls.read(self._base, path)) as stream:
            yield from stream

    def list(self, path: str = "/", depth: int = 1) -> list[FileInfo]:
        return self._transport.send(calls.list_all(self._base, path, depth)).items

    def stat(self, path: str) -> FileInfo:
        return self._transport.send(calls.stat(self._base, path))

    def exists(self, path: str) -> bool:
        try:
            self._transport.json(calls.stat(self._base, path))
        except NotFound:
            return False
        return True

    def download(self, remote: str, local: str | os.PathLike[str], *, all_links: bool = False) -> int:
        """Copy a file or tree to this machine by the rules of `docker cp`; returns how many files came.

        Links that point out of the copied tree are left out unless `all_links`.
        """
        place = copying.download_place(os.fspath(local), remote)
        with self._transport.stream(calls.read_archive(self._base, copying.archive_path(remote))) as stream:
            return copying.unpack(stream, *place, all_links=all_links).files


class Files(CheckpointFiles):
    def write(
        self, path: str, content: str | bytes | Iterable[bytes], *, mode: str | None = None, parents: bool = True
    ) -> FileInfo:
        """Make or replace one file; `parents` makes the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        return self._transport.send(calls.write(self._base, path, data, mode=mode, parents=parents))

    def mkdir(self, path: str, *, parents: bool = True, mode: str = "0755") -> FileInfo:
        return self._transport.send(calls.mkdir(self._base, path, parents=parents, mode=mode))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        self._transport.json(calls.remove(self._base, path, recursive))

    def rename(self, source: str, target: str) -> FileInfo:
        return self._transport.send(calls.rename(self._base, source, target))

    def watch(self, path: str, *, recursive: bool = False) -> Feed[FileEvent]:
        """Changes below `path` from now on; what happens after this returns is not missed."""
        call = calls.watch(self._base, path, recursive)
        return Feed(self._transport.stream(call), call.parse).started()

    def upload(self, local: str | os.PathLike[str], remote: str, *, follow: bool = False) -> int:
        """Copy a file or tree into the sandbox by the rules of `docker cp`; returns how many files went."""
        path = Path(local)
        upload = copying.plan_upload(
            os.fspath(local), remote, self._transport.run(copying.remote_kind(self._base, remote))
        )
        data = copying.pack(path, upload.name, follow=follow)
        answer: Any = self._transport.json(calls.write_archive(self._base, upload.folder, data))
        return int(answer["files"])
