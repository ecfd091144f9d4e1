"""The agent's files API: one guest's tree over HTTP.

Names in answers are always valid Unicode: a byte that is not UTF-8 is shown as \\xNN (see views.readable). In the
query a path is taken byte for byte, so such a file is reached by %NN; JSON bodies can name only UTF-8.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from skerry.agent.files.archive_in import Unpacker
from skerry.agent.files.archive_out import Packer
from skerry.agent.files.ask import Query, body_of, range_of, refuse_long
from skerry.agent.files.diff import diff
from skerry.agent.files.openat2 import Fd, read_at_most
from skerry.agent.files.speech import speaking
from skerry.agent.files.stream import feed, make_pipe, read_some, ready
from skerry.agent.files.tree import LIST_DEPTH_MAX, Tree
from skerry.agent.files.upload import Upload
from skerry.agent.files.views import Parts, Roots, View, parse_path, spell
from skerry.agent.files.watch import Watch, disk_of
from skerry.errors import Failed, Invalid, LimitReached, NotFound
from skerry.model.file import FileInfo, FileList, MkdirRequest, RenameRequest

UPLOAD_BYTES_MAX = 64 * 1024**3
CHUNK_BYTES = 1024 * 1024
"""Of a file, read or written by a thread in one go: large enough that changing threads costs nothing."""
THREADS_MAX = 8
ARCHIVES_MAX = 16
"""Archives in the making at one time; each has a thread for as long as its client reads or writes."""
WATCHES_MAX = 32
LOOK_S = 5.0
"""How often a watch makes sure that its disk is still the sandbox's disk."""

Answer = TypeVar("Answer")


def file_routes(roots: Roots, *, upload_bytes_max: int = UPLOAD_BYTES_MAX) -> list[Route]:
    api = _Files(roots, upload_bytes_max)
    routes: list[Route] = []
    for base in ("/sandboxes/{sandbox}", "/checkpoints/{checkpoint}"):
        routes += [
            Route(f"{base}/files", api.read, methods=["GET"]),
            Route(f"{base}/files/list", api.list, methods=["GET"]),
            Route(f"{base}/files/stat", api.stat, methods=["GET"]),
            Route(f"{base}/files/archive", api.pack, methods=["GET"]),
        ]
    base = "/sandboxes/{sandbox}"
    routes += [
        Route(f"{base}/files", api.write, methods=["PUT"]),
        Route(f"{base}/files", api.remove, methods=["DELETE"]),
        Route(f"{base}/files/mkdir", api.mkdir, methods=["POST"]),
        Route(f"{base}/files/rename", api.rename, methods=["POST"]),
        Route(f"{base}/files/archive", api.unpack, methods=["PUT"]),
        Route(f"{base}/files/watch", api.watch, methods=["GET"]),
        Route("/checkpoints/{checkpoint}/diff", api.diff, methods=["GET"]),
    ]
    return routes


class _Files:
    def __init__(self, roots: Roots, upload_bytes_max: int) -> None:
        self._roots = roots
        self._upload_bytes_max = upload_bytes_max
        self._threads = ThreadPoolExecutor(THREADS_MAX, "files")
        self._archive_threads = ThreadPoolExecutor(ARCHIVES_MAX, "archive")
        self._archives = 0
        self._watches = 0

    async def read(self, request: Request) -> Response:
        query = Query(request, "path", "wake")
        parts, wake = query.path(), query.switch("wake", True)
        view = await self._view(request, wake=wake)
        file, size, start = await self._run(partial(_open, view, parts))
        headers = {"accept-ranges": "bytes", "x-content-type-options": "nosniff"}
        part = range_of(request, size)
        first, count = part or (0, size)
        status = 200
        if part is not None:
            if not count and size:
                failed = Invalid(f"{spell(parts)} has {size} bytes; the range lies outside of it", field="range")
                return JSONResponse(failed.wire(), status_code=416, headers={"content-range": f"bytes */{size}"})
            status = 206 if count else 200
            if count:
                headers["content-range"] = f"bytes {first}-{first + count - 1}/{size}"
        kind = "application/octet-stream"
        if file is None:
            return Response(start[first : first + count], status, headers, kind)
        headers["content-length"] = str(count)
        if request.method == "HEAD":
            return Response(None, status, headers, kind)
        return StreamingResponse(self._chunks(file, first, count, parts), status, headers, kind)

    async def _chunks(self, file: Fd, at: int, left: int, parts: Parts) -> AsyncIterator[bytes]:
        # The descriptor is not closed here but when the last holder, which may be a thread, lets go of it.
        while left:
            data = await self._run(partial(_piece, file, min(CHUNK_BYTES, left), at))
            if not data:
                raise Failed(f"{spell(parts)} became shorter while it was read")
            yield data
            at += len(data)
            left -= len(data)

    async def list(self, request: Request) -> Response:
        query = Query(request, "path", "depth")
        view, parts = await self._view(request), query.path()
        depth = query.number("depth", 1, 1, LIST_DEPTH_MAX)

        def work() -> bytes:
            with Tree(view) as tree:
                found: FileList = tree.list(parts, depth)
            return found.model_dump_json().encode()

        return Response(await self._run(work), media_type="application/json")

    async def stat(self, request: Request) -> Response:
        query = Query(request, "path", "follow")
        view, parts, follow = await self._view(request), query.path(), query.switch("follow", False)
        return await self._tree(view, lambda tree: tree.stat(parts, follow=follow))

    async def write(self, request: Request) -> Response:
        query = Query(request, "path", "mode", "parents")
        parts, mode, parents = query.path(), query.mode(), query.switch("parents", True)
        refuse_long(request, self._upload_bytes_max)
        view = await self._view(request)

        def begin() -> Upload:
            with Tree(view) as tree:
                return Upload(tree, parts, mode=mode, parents=parents, bytes_max=self._upload_bytes_max)

        upload = await self._run(begin)
        try:
            gathered = bytearray()
            async for chunk in request.stream():
                gathered += chunk
                if len(gathered) >= CHUNK_BYTES:
                    full, gathered = gathered, bytearray()
                    await self._run(partial(upload.write, full))
            if gathered:
                await self._run(partial(upload.write, gathered))
            info = await self._run(upload.commit)
        finally:
            # In a thread, for it waits for a write that a cancelled request has left running.
            self._threads.submit(upload.close)
        return _json(info)

    async def remove(self, request: Request) -> Response:
        query = Query(request, "path", "recursive")
        parts, recursive = query.path(), query.switch("recursive", False)
        view = await self._view(request)

        def work() -> None:
            with Tree(view) as tree:
                tree.remove(parts, recursive=recursive)

        await self._run(work)
        return Response(status_code=204)

    async def mkdir(self, request: Request) -> Response:
        Query(request)
        asked = await body_of(request, MkdirRequest)
        parts = parse_path(asked.path, "path")
        mode = int(asked.mode, 8)
        view = await self._view(request)
        return await self._tree(view, lambda tree: tree.mkdir(parts, mode=mode, parents=asked.parents))

    async def rename(self, request: Request) -> Response:
        Query(request)
        asked = await body_of(request, RenameRequest)
        source, target = parse_path(asked.source, "source"), parse_path(asked.target, "target")
        view = await self._view(request)
        return await self._tree(view, lambda tree: tree.rename(source, target))

    async def pack(self, request: Request) -> Response:
        query = Query(request, "path", "follow")
        parts, follow = query.path(), query.switch("follow", False)
        view = await self._view(request)
        read_end, write_end = make_pipe()
        worker = self._archive(partial(_pack, view, parts, follow, write_end))
        number = read_end.fileno()
        os.set_blocking(number, False)
        first = await read_some(number)
        if not first:
            await asyncio.shield(worker)  # it failed before its first byte: that is still a proper answer

        async def stream() -> AsyncIterator[bytes]:
            chunk = first
            with read_end:  # closed early, it tells the worker that nobody reads on
                while chunk:
                    yield chunk
                    chunk = await read_some(number)
            await asyncio.shield(worker)

        if request.method == "HEAD":
            return Response(media_type="application/x-tar")
        return StreamingResponse(stream(), media_type="application/x-tar")

    async def unpack(self, request: Request) -> Response:
        query = Query(request, "path", "parents")
        parts, parents = query.path(), query.switch("parents", True)
        refuse_long(request, self._upload_bytes_max)
        view = await self._view(request)
        read_end, write_end = make_pipe()
        worker = self._archive(partial(_unpack, view, parts, parents, read_end, self._upload_bytes_max))
        with write_end:
            try:
                await feed(write_end.fileno(), request.stream())
            except BrokenPipeError:
                pass  # the worker has stopped, and knows why
        return JSONResponse(await asyncio.shield(worker))

    async def watch(self, request: Request) -> Response:
        query = Query(request, "path", "recursive")
        parts, recursive = query.path(), query.switch("recursive", False)
        view = await self._view(request)
        if self._watches >= WATCHES_MAX:
            raise LimitReached(f"{WATCHES_MAX} watches are running on this machine already", retry_after_s=5)
        disk = await self._run(partial(disk_of, view))
        watch = await self._run(partial(Watch, view, parts, recursive=recursive))
        return StreamingResponse(self._events(request, view, disk, watch), media_type="application/x-ndjson")

    async def _events(
        self, request: Request, view: View, disk: tuple[int, int] | None, watch: Watch
    ) -> AsyncIterator[bytes]:
        # As with files, the watch is closed by whoever holds it last: this or a thread that is just reading it.
        self._watches += 1
        try:
            yield b'{"kind":"ready"}\n'
            while not watch.ended:
                try:
                    async with asyncio.timeout(LOOK_S):
                        await ready(watch.fileno())
                except TimeoutError:
                    try:
                        view = await self._view(request, wake=False)
                    except NotFound:
                        return
                    if await self._run(partial(disk_of, view)) != disk:
                        return  # restored or deleted: what we watch is nobody's any more
                    continue
                for event in await self._run(watch.read):
                    yield event.model_dump_json().encode() + b"\n"
        finally:
            self._watches -= 1

    async def diff(self, request: Request) -> Response:
        query = Query(request, "checkpoint", "sandbox")
        checkpoint, sandbox = query.text("checkpoint"), query.text("sandbox")
        old = await self._view(request)
        if (checkpoint is None) == (sandbox is None):
            raise Invalid("name either a checkpoint or a sandbox to compare with")
        if checkpoint is not None:
            new = await self._roots.checkpoint_view(checkpoint)
        else:
            new = await self._roots.sandbox_view(sandbox or "", wake=False)
        found = await self._run(lambda: diff(old.root, new.root).model_dump_json().encode())
        return Response(found, media_type="application/json")

    async def _view(self, request: Request, *, wake: bool = True) -> View:
        checkpoint = request.path_params.get("checkpoint")
        if checkpoint is not None:
            return await self._roots.checkpoint_view(str(checkpoint))
        return await self._roots.sandbox_view(str(request.path_params["sandbox"]), wake=wake)

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _tree(self, view: View, work: Callable[[Tree], FileInfo]) -> Response:
        def inside() -> FileInfo:
            with Tree(view) as tree:
                return work(tree)

        return _json(await self._run(inside))

    def _archive(self, work: Callable[[], Answer]) -> asyncio.Future[Answer]:
        """Start an archive's thread. It ends by itself once the other end of its pipe is closed."""
        if self._archives >= ARCHIVES_MAX:
            raise LimitReached(f"{ARCHIVES_MAX} archives are being copied on this machine already", retry_after_s=1)
        self._archives += 1
        running: Future[Answer] = self._archive_threads.submit(work)
        answer = asyncio.wrap_future(running)
        answer.add_done_callback(self._archived)
        return answer

    def _archived(self, answer: asyncio.Future[Any]) -> None:
        self._archives -= 1
        if not answer.cancelled():
            answer.exception()  # asked for here, so that an answer nobody waits for is not reported as forgotten


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _open(view: View, parts: Parts) -> tuple[Fd | None, int, bytes]:
    """A small file's content at once; of a large one its descriptor. With the size it had when it was opened."""
    with Tree(view) as tree:
        file, status = tree.open_file(parts)
    if status.st_size > CHUNK_BYTES:
        return file, status.st_size, b""
    with file, speaking(parts):
        data = read_at_most(file.fileno(), CHUNK_BYTES)
        return None, len(data), data


def _piece(file: Fd, size_bytes: int, at: int) -> bytes:
    return os.pread(file.fileno(), size_bytes, at)


def _pack(view: View, parts: Parts, follow: bool, write_end: Fd) -> None:
    # "/" has no name of its own; the client renames the first part anyway.
    name = parts[-1] if parts else "root"
    with write_end, Tree(view) as tree, tree.resolver.find(parts, follow=follow) as spot, speaking(parts):
        try:
            Packer(write_end.fileno()).pack(spot, name)
        except BrokenPipeError:
            pass  # the client has enough


def _unpack(view: View, parts: Parts, parents: bool, read_end: Fd, bytes_max: int) -> dict[str, int]:
    with read_end, Tree(view) as tree:
        if not parents:
            with tree.resolver.find(parts, follow=True, write=True) as spot:
                spot.status()
        with (
            open(read_end.fileno(), "rb", buffering=CHUNK_BYTES, closefd=False) as stream,
            closing(Unpacker(tree, parts, bytes_max=bytes_max)) as unpacker,
        ):
            done = unpacker.unpack(stream)
    return {"files": done.files, "bytes": done.bytes}
