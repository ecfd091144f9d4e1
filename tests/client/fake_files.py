"""Files of the fake control plane: a folder for each sandbox and each checkpoint."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import stat
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from skerry.errors import Invalid, NotFound
from skerry.model.file import FileInfo, FileKind

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl


class FakeFiles:
    """`archive` is what the archive route answers, where a test wants a hostile one."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self.archive: bytes | None = None
        self.owners: set[tuple[int, int]] = set()

    def routes(self, box: str) -> list[web.RouteDef]:
        found = [
            web.put(box + "/files", self._write),
            web.delete(box + "/files", self._remove),
            web.post(box + "/files/mkdir", self._mkdir),
            web.post(box + "/files/rename", self._rename),
            web.put(box + "/files/archive", self._extract),
            web.get(box + "/files/watch", self._watch),
        ]
        for base in (box, box + "/checkpoints/{cref}"):
            found += [
                web.get(base + "/files", self._read),
                web.get(base + "/files/list", self._list),
                web.get(base + "/files/stat", self._stat),
                web.get(base + "/files/archive", self._archive),
            ]
        return found

    def _root(self, request: web.Request) -> Path:
        sandbox = self._control.find(request.match_info["ref"])
        if "cref" in request.match_info:
            return self._control.disk(self._control.find_checkpoint(sandbox, request.match_info["cref"]).id)
        return self._control.disk(sandbox.id)

    def _path(self, request: web.Request, text: str | None = None) -> Path:
        text = request.query["path"] if text is None else text
        if not text.startswith("/"):
            raise Invalid(f"path: {text!r} does not start with /", field="path")
        return self._root(request) / text.lstrip("/")

    def _info(self, request: web.Request, path: Path) -> FileInfo:
        try:
            found = path.lstat()
        except FileNotFoundError:
            raise NotFound(f"/{path.relative_to(self._root(request))} does not exist") from None
        kinds = {stat.S_IFDIR: FileKind.DIRECTORY, stat.S_IFREG: FileKind.FILE, stat.S_IFLNK: FileKind.SYMLINK}
        kind = kinds.get(stat.S_IFMT(found.st_mode), FileKind.OTHER)
        return FileInfo(
            path=f"/{path.relative_to(self._root(request))}",
            name=path.name,
            kind=kind,
            size_bytes=found.st_size,
            mode=f"{stat.S_IMODE(found.st_mode):04o}",
            uid=0,
            gid=0,
            modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
            target=str(path.readlink()) if kind is FileKind.SYMLINK else None,
        )

    def _answer(self, request: web.Request, path: Path) -> web.Response:
        return web.json_response(self._info(request, path).model_dump(mode="json"))

    async def _read(self, request: web.Request) -> web.StreamResponse:
        path = self._path(request)
        self._info(request, path)
        return web.FileResponse(path)

    async def _write(self, request: web.Request) -> web.Response:
        path = self._path(request)
        if request.query.get("parents") == "true":
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await request.read())
        path.chmod(int(request.query.get("mode", "0644"), 8))
        return self._answer(request, path)

    async def _remove(self, request: web.Request) -> web.Response:
        path = self._path(request)
        self._info(request, path)
        if not path.is_dir():
            path.unlink()
        elif request.query["recursive"] == "true":
            shutil.rmtree(path)
        else:
            raise Invalid("it is a folder: say recursive")
        return web.json_response({})

    async def _mkdir(self, request: web.Request) -> web.Response:
        path = self._path(request, (await request.json())["path"])
        path.mkdir(parents=True, exist_ok=True)
        return self._answer(request, path)

    async def _rename(self, request: web.Request) -> web.Response:
        asked = await request.json()
        path = self._path(request, asked["source"]).rename(self._path(request, asked["target"]))
        return self._answer(request, path)

    async def _list(self, request: web.Request) -> web.Response:
        path = self._path(request)
        if not path.is_dir():
            raise Invalid("it is no folder")
        items = [self._info(request, child).model_dump(mode="json") for child in sorted(path.iterdir())]
        return web.json_response({"items": items, "truncated": False})

    async def _stat(self, request: web.Request) -> web.Response:
        return self._answer(request, self._path(request))

    async def _archive(self, request: web.Request) -> web.Response:
        if self.archive is not None:
            return web.Response(body=self.archive)
        path = self._path(request)
        self._info(request, path)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(path, arcname=path.name)
        return web.Response(body=buffer.getvalue())

    async def _extract(self, request: web.Request) -> web.Response:
        path = self._path(request)
        path.mkdir(parents=True, exist_ok=True)
        files = size = 0
        with tarfile.open(fileobj=io.BytesIO(await request.read())) as archive:
            for member in archive:
                self.owners.add((member.uid, member.gid))
                files += not member.isdir()
                size += member.size
                archive.extract(member, path, filter="tar")
        return web.json_response({"files": files, "bytes": size})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        path = self._path(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(b'{"kind": "ready"}\n')
        before = set(path.iterdir())
        while True:
            await asyncio.sleep(0.02)
            for new in set(path.iterdir()) - before:
                line = {"kind": "created", "path": f"/{new.relative_to(self._root(request))}"}
                await response.write(json.dumps(line).encode() + b"\n")
            before = set(path.iterdir())
