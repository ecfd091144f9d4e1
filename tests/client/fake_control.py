"""A small control plane for tests of the client: speaks the public API on loopback and on a unix socket, in a thread.

Records are made with the model, so what it says is what the real one may say. A sandbox's disk is a folder; its
commands are processes of this machine.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from skerry.errors import (
    AlreadyExists,
    Conflict,
    Failed,
    Forbidden,
    Invalid,
    NotFound,
    Protected,
    RestartNeeded,
    SkerryError,
    Unauthenticated,
    Unavailable,
)
from skerry.model.changes import Change
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.event import Event
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageRequest, ImageState
from skerry.model.operation import Operation, OperationState
from skerry.model.sandbox import S, Sandbox, SandboxSpec, SandboxUpdate, changes
from tests.client.fake_commands import FakeCommands
from tests.client.fake_files import FakeFiles
from tests.client.fake_guest_services import FakeGuestServices
from tests.client.fake_jobs import FakeJobs
from tests.client.fake_sleep import FakeSleep
from tests.client.fake_ssh import FakeSsh
from tests.client.fake_urls import FakeUrls

KEY = "sk-fake"
STATUS = {
    Invalid: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Unavailable: 503,
    Failed: 500,
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def now() -> datetime:
    return datetime.now(UTC)


class FakeControl:
    """`requests` is what was asked, `METHOD path`, in order; `slow_operations` makes create answer 202."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket_path = folder / "control.sock"
        self.port = 0
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.peers: list[Any] = []
        self.slow_operations = False
        self.fail_start = False
        self.slow_watch_s = 0.0
        self.resets = 0
        self.away = 0
        """So many calls that wait for something are told that we are away."""
        self.sandboxes: dict[str, Sandbox] = {}
        self.checkpoints: dict[str, list[Checkpoint]] = {}
        self.images: dict[str, Image] = {}
        self.operations: dict[str, Operation] = {}
        self.events: list[Event] = []
        self.uploads: dict[str, bytes] = {}
        self.commands = FakeCommands(self)
        self.files = FakeFiles(self)
        self.sleep = FakeSleep(self)
        self.urls = FakeUrls(self)
        self.ssh = FakeSsh(self)
        self.services = FakeGuestServices(self)
        self.jobs = FakeJobs(self)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def tcp(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        self.add_image("debian:12")
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def add_image(self, name: str) -> Image:
        image = Image(
            id=make_id("image", os.urandom(6)),
            project="default",
            name=name,
            state=ImageState.READY,
            source="recipe:debian:12",
            digest="sha256:" + "ab" * 32,
            size_bytes=123_456_789,
            created_at=now(),
            updated_at=now(),
        )
        self.images[image.id] = image
        return image

    def disk(self, sandbox_id: str) -> Path:
        return self.folder / "disks" / sandbox_id

    def find(self, ref: str) -> Sandbox:
        for sandbox in self.sandboxes.values():
            if sandbox.name == ref or sandbox.id.startswith(ref):
                return sandbox
        raise NotFound(f"there is no sandbox {ref!r}")

    def find_checkpoint(self, sandbox: Sandbox, ref: str) -> Checkpoint:
        for checkpoint in self.checkpoints.get(sandbox.id, []):
            if ref in (checkpoint.id, f"v{checkpoint.number}", str(checkpoint.number)):
                return checkpoint
        raise NotFound(f"{sandbox.name} has no checkpoint {ref!r}")

    def tell(self, sandbox: Sandbox, kind: str) -> None:
        sequence = len(self.events) + 1
        event = Event(
            sequence=sequence,
            at=now(),
            project="default",
            noun="sandbox",
            target=sandbox.id,
            name=sandbox.name,
            kind=kind,
        )
        self.events.append(event)

    def operate(self, target: str, kind: str, state: OperationState = OperationState.SUCCEEDED, error: str = "") -> str:
        operation = Operation(
            id=make_id("operation", os.urandom(6)),
            project="default",
            kind=kind,
            target=target,
            state=state,
            error=error or None,
            created_at=now(),
        )
        self.operations[operation.id] = operation
        return operation.id

    def change(self, sandbox: Sandbox, **fields: Any) -> Sandbox:
        changed = sandbox.model_copy(update={"updated_at": now(), **fields})
        self.sandboxes[sandbox.id] = changed
        return changed

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._app(), shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        tcp = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(tcp.start())
        self._loop.run_until_complete(web.UnixSite(runner, str(self.socket_path)).start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self.commands.close())
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._edge], client_max_size=64 * 1024**2)
        box = "/v1/sandboxes/{ref}"
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/info", self._info),
                web.get("/broken", self._broken),
                web.post("/v1/sandboxes", self._create),
                web.get("/v1/sandboxes", self._list),
                web.get(box, self._get),
                web.patch(box, self._update),
                web.delete(box, self._delete),
                web.post(box + "/{verb:start|stop|restore}", self._move),
                web.post(box + "/fork", self._fork),
                web.post(box + "/checkpoints", self._checkpoint),
                web.get(box + "/checkpoints", self._list_checkpoints),
                web.get(box + "/checkpoints/{cref}", self._get_checkpoint),
                web.get(box + "/checkpoints/{cref}/diff", self._diff),
                web.get(box + "/logs", self._logs),
                web.get(box + "/stats", self._stats),
                web.post("/v1/images", self._make_image),
                web.post("/v1/images/upload", self._upload_image),
                web.get("/v1/images", self._list_images),
                web.get("/v1/images/{ref:.+}", self._get_image),
                web.delete("/v1/images/{ref:.+}", self._delete_image),
                web.get("/v1/operations/{id}", self._operation),
                web.get("/v1/operations/{id}/watch", self._watch_operation),
                web.get("/v1/events", self._list_events),
                *self.jobs.routes(),
                *self.commands.routes(box),
                *self.files.routes(box),
                *self.sleep.routes(box),
                *self.urls.routes(box),
                *self.ssh.routes(box),
                *self.services.routes(box),
            ]
        )
        return app

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        self.peers.append(request.transport.get_extra_info("peername") if request.transport else None)
        if self.resets and request.transport is not None:
            self.resets -= 1
            request.transport.abort()
            raise asyncio.CancelledError
        try:
            if request.path != "/health" and request.headers.get("Authorization") != f"Bearer {KEY}":
                raise Unauthenticated("a key is needed")
            if self.away and float(request.query.get("wait_s") or 0):
                self.away -= 1
                raise Unavailable("away")
            return await handler(request)
        except SkerryError as error:
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
            return web.json_response(error.wire(), status=status)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _broken(self, request: web.Request) -> web.Response:
        return web.Response(text="<html>Bad Gateway</html>", status=502)

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.1.0", "capabilities": {"checkpoint": True, "gpu": False}})

    def _made(self, spec: SandboxSpec, parent: Sandbox | None = None, name: str = "") -> Sandbox:
        sandbox_id = make_id("sandbox", os.urandom(6))
        name = name or spec.name or f"box-{len(self.sandboxes) + 1}"
        if any(other.name == name for other in self.sandboxes.values()):
            raise AlreadyExists(f"there is a sandbox {name!r} already")
        self.disk(sandbox_id).parent.mkdir(exist_ok=True)
        if parent:
            shutil.copytree(self.disk(parent.id), self.disk(sandbox_id), symlinks=True)
        else:
            self.disk(sandbox_id).mkdir()
        sandbox = Sandbox(
            id=sandbox_id,
            project="default",
            name=name,
            state=S.RUNNING,
            spec=spec,
            generation=1,
            address=f"10.201.0.{2 + 4 * len(self.sandboxes)}",
            parent=parent.id if parent else None,
            created_at=now(),
            updated_at=now(),
        )
        self.sandboxes[sandbox.id] = sandbox
        self.tell(sandbox, "created")
        return sandbox

    async def _create(self, request: web.Request) -> web.Response:
        spec = await _read(request, SandboxSpec)
        if not any(image.name in (spec.image, f"{spec.image}:latest") for image in self.images.values()):
            raise NotFound(f"there is no image {spec.image!r}", field="image")
        sandbox = self._made(spec)
        if self.fail_start:
            sandbox = self.change(sandbox, state=S.FAILED, reason="no such command")
        if self.slow_operations:
            operation = self.operate(sandbox.id, "sandbox.create", OperationState.RUNNING)
            answer = self.change(sandbox, operation=operation).model_copy(update={"state": S.STARTING})
            return _json(answer, 202)
        return _json(sandbox, 201)

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        wanted = dict(label.split("=", 1) for label in query.getall("label", []))
        found = [
            sandbox
            for sandbox in self.sandboxes.values()
            if wanted.items() <= sandbox.spec.labels.items()
            and sandbox.name.startswith(query.get("name", ""))
            and sandbox.state == query.get("state", sandbox.state)
        ]
        start, limit = int(query.get("page_token", "0")), int(query.get("limit", "100"))
        token = str(start + limit) if start + limit < len(found) else None
        return _items(found[start : start + limit], next_page_token=token)

    async def _get(self, request: web.Request) -> web.Response:
        return _json(self.find(request.match_info["ref"]))

    async def _update(self, request: web.Request) -> web.Response:
        sandbox, wanted = self.find(request.match_info["ref"]), await _read(request, SandboxUpdate)
        spec = wanted.spec_after(sandbox.spec)
        if sandbox.state is not S.STOPPED and Change.RESTART in changes(sandbox.spec, spec).values():
            raise RestartNeeded(f"sandbox {sandbox.name} is running: stop it first")
        return _json(self.change(sandbox, spec=spec, name=wanted.name or sandbox.name))

    async def _delete(self, request: web.Request) -> web.Response:
        sandbox = self.find(request.match_info["ref"])
        if sandbox.spec.protected and request.query.get("force") != "true":
            raise Protected(f"{sandbox.name} is protected")
        del self.sandboxes[sandbox.id]
        self.tell(sandbox, "deleted")
        return _json(sandbox.model_copy(update={"state": S.DELETED}))

    async def _move(self, request: web.Request) -> web.Response:
        sandbox, verb = self.find(request.match_info["ref"]), request.match_info["verb"]
        if verb == "restore":
            checkpoint = self.find_checkpoint(sandbox, (await request.json())["checkpoint"])
            shutil.rmtree(self.disk(sandbox.id))
            shutil.copytree(self.disk(checkpoint.id), self.disk(sandbox.id), symlinks=True)
        return _json(self.change(sandbox, state=S.STOPPED if verb == "stop" else S.RUNNING))

    async def _fork(self, request: web.Request) -> web.Response:
        parent, asked = self.find(request.match_info["ref"]), await request.json()
        prefix = asked.get("name") or parent.name
        spec = parent.spec.model_copy(update={"labels": {**parent.spec.labels, **asked.get("labels", {})}})
        made = [self._made(spec, parent, f"{prefix}-{n + 1}") for n in range(asked["count"])]
        return _items(made, status=201)

    async def _checkpoint(self, request: web.Request) -> web.Response:
        sandbox = self.find(request.match_info["ref"])
        held = self.checkpoints.setdefault(sandbox.id, [])
        checkpoint = Checkpoint(
            id=make_id("checkpoint", os.urandom(6)),
            project="default",
            sandbox=sandbox.id,
            number=len(held) + 1,
            state=CheckpointState.READY,
            origin=Origin.USER,
            comment=(await request.json())["comment"],
            spec=sandbox.spec,
            image_digest="sha256:" + "ab" * 32,
            node="n1",
            created_at=now(),
            frozen_ms=1.25,
        )
        held.append(checkpoint)
        shutil.copytree(self.disk(sandbox.id), self.disk(checkpoint.id), symlinks=True)
        return _json(checkpoint, 201)

    async def _list_checkpoints(self, request: web.Request) -> web.Response:
        return _items(self.checkpoints.get(self.find(request.match_info["ref"]).id, []), next_page_token=None)

    async def _get_checkpoint(self, request: web.Request) -> web.Response:
        return _json(self.find_checkpoint(self.find(request.match_info["ref"]), request.match_info["cref"]))

    async def _diff(self, request: web.Request) -> web.Response:
        items = [{"path": "/srv/new", "change": "added"}, {"path": "/srv/old", "change": "removed"}]
        return web.json_response({"items": items, "truncated": "to" in request.query})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        for line in (b"one\n", "zwölf\n".encode())[-int(request.query.get("tail", "2")) :]:
            await response.write(line)
        return response

    async def _stats(self, request: web.Request) -> web.Response:
        self.find(request.match_info["ref"])
        numbers = (
            "cpu_s",
            "memory_bytes",
            "memory_limit_bytes",
            "memory_peak_bytes",
            "oom_kills",
            "pids",
            "pids_limit",
        )
        more = ("disk_bytes", "disk_limit_bytes", "network_received_bytes", "network_sent_bytes")
        return web.json_response({"at": now().isoformat(), **dict.fromkeys((*numbers, *more), 1)})

    async def _make_image(self, request: web.Request) -> web.Response:
        asked = await _read(request, ImageRequest)
        if asked.name in [image.name for image in self.images.values()]:
            raise AlreadyExists(f"there is an image {asked.name!r} already")
        image = self.add_image(asked.name)
        bad = asked.source is not None and "broken" in asked.source
        operation = self.operate(
            image.id, "image.create", OperationState.RUNNING, "the registry is gone" if bad else ""
        )
        answer = image.model_copy(update={"operation": operation, "state": ImageState.CREATING})
        return _json(answer, 202)

    async def _upload_image(self, request: web.Request) -> web.Response:
        data = await request.read()
        self.uploads[request.query["name"]] = data
        return _json(self.add_image(request.query["name"]), 201)

    async def _list_images(self, request: web.Request) -> web.Response:
        return _items(self.images.values(), next_page_token=None)

    async def _get_image(self, request: web.Request) -> web.Response:
        ref = request.match_info["ref"].removesuffix("/export")
        for image in self.images.values():
            if ref in (image.id, image.name):
                return web.Response(body=b"archive" * 1000) if request.path.endswith("/export") else _json(image)
        raise NotFound(f"there is no image {ref!r}")

    async def _delete_image(self, request: web.Request) -> web.Response:
        ref = request.match_info["ref"]
        image = next((found for found in self.images.values() if ref in (found.id, found.name)), None)
        if image is None:
            raise NotFound(f"there is no image {ref!r}")
        return _json(self.images.pop(image.id))

    def _ended(self, operation: Operation) -> Operation:
        state = OperationState.FAILED if operation.error else OperationState.SUCCEEDED
        return operation.model_copy(update={"state": state, "finished_at": now()})

    async def _operation(self, request: web.Request) -> web.Response:
        operation = self.operations[request.match_info["id"]]
        return _json(self._ended(operation) if "wait_s" in request.query else operation)

    async def _watch_operation(self, request: web.Request) -> web.StreamResponse:
        operation = self.operations[request.match_info["id"]]
        progress = {"step": "copying", "done_bytes": 5 * 1024**2, "total_bytes": 10 * 1024**2}
        under_way = operation.model_copy(update={"error": None, "progress": progress})
        if self.slow_watch_s:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write((under_way.model_dump_json() + "\n").encode())
            await asyncio.sleep(self.slow_watch_s)
            return response
        return await _lines(request, [under_way, under_way, self._ended(operation)])

    async def _list_events(self, request: web.Request) -> web.StreamResponse:
        target, after = request.query.get("target"), int(request.query.get("after", "0"))
        found = [event for event in self.events if event.sequence > after and target in (None, event.target)]
        if request.query.get("watch") == "true":
            return await _lines(request, found)
        return _items(found, next_page_token=None)


async def _read(request: web.Request, kind: Any) -> Any:
    try:
        return kind.model_validate(await request.json())
    except ValueError as error:
        raise Invalid(str(error).splitlines()[-2].strip(), field="body") from None


def _json(record: Any, status: int = 200) -> web.Response:
    return web.json_response(record.model_dump(mode="json"), status=status)


def _items(records: Any, status: int = 200, **more: Any) -> web.Response:
    return web.json_response({"items": [record.model_dump(mode="json") for record in records], **more}, status=status)


async def _lines(request: web.Request, records: list[Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for record in records:
        await response.write((json.dumps(record.model_dump(mode="json")) + "\n").encode())
    return response


def tar_of(members: dict[str, bytes | str]) -> bytes:
    """name -> content, or text "-> TARGET" for a link, or "/" for a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                continue
            info.type, info.linkname = (tarfile.DIRTYPE, "") if content == "/" else (tarfile.SYMTYPE, content[3:])
            info.mode = 0o755
            archive.addfile(info)
    return buffer.getvalue()
