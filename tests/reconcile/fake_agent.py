"""An agent without a machine: the same HTTP API on a unix socket, its sandboxes in memory, and failures on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from skerry.errors import Conflict, Failed, Invalid, NotFound, SkerryError
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import Exit, ExitReason
from skerry.model.service import ServiceStatus, Statuses
from skerry.model.sleep import Asleep, Tier
from skerry.model.wire import STATUS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(StrEnum):
    BEFORE = "before"  # the connection breaks, nothing was done
    AFTER = "after"  # it was done, the answer is lost
    ERROR = "error"  # it answers 500


@dataclass
class Box:
    order: Order
    generation: int
    presence: Presence
    disk: list[str]
    """What happened to its disk, in order: a fork starts with its source's history."""
    exit: Exit | None = None
    wanted: dict[str, Any] | None = None
    asleep: Asleep | None = None
    services: Statuses = ()
    starts: int = 0
    restored: int = 0
    """The newest order to restore that was carried out."""


@dataclass
class World:
    """What outlives the agent's process: the machine."""

    boxes: dict[str, Box] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, list[str]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)


class FakeAgent:
    def __init__(self, path: Path, world: World | None = None) -> None:
        self.path = path
        self.world = world or World()
        self.faults: dict[str, list[Fault]] = {}
        """verb -> what befalls its next calls, first to last."""
        self.refuse: dict[str, SkerryError] = {}
        """verb -> the error that it always answers."""
        self.slow_s: dict[str, float] = {}
        """verb, or sandbox id, or image source -> how long its calls take."""
        self.uploads: list[bytes] = []
        self.guest_answers: list[tuple[str, str]] = []
        self.held_ports: list[dict[str, Any]] = []
        """What other programs of the machine listen on."""
        self.closed_streams = 0
        self.capacity = {"cpu": 4.0, "memory_bytes": 8 * 1024**3, "disk_bytes": 10**11, "disk_free_bytes": 10**11}
        self.between: Callable[[web.Request, Handler], Awaitable[Any]] | None = None
        """Called in place of each handler, and given it."""
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 40, middlewares=[self._middleware])
        one = "/sandboxes/{id}"
        add = app.router.add_route
        add("GET", "/health", self._health)
        add("GET", "/capacity", self._verb("capacity", self._capacity))
        add("GET", "/reports", self._reports)
        add("GET", "/ports/held", self._verb("held", self._held))
        add("PUT", one, self._verb("start", self._start))
        add("DELETE", one, self._verb("delete", self._delete))
        add("POST", one + "/stop", self._verb("stop", self._stop))
        add("POST", one + "/restore", self._verb("restore", self._restore))
        add("PUT", one + "/checkpoints/{cid}", self._verb("checkpoint", self._checkpoint))
        add("POST", one + "/checkpoint-refused", self._verb("refuse", self._refused))
        add("GET", "/checkpoints", self._verb("checkpoints", self._checkpoints))
        add("DELETE", "/checkpoints/{cid}", self._verb("delete_checkpoint", self._delete_checkpoint))
        add("GET", "/checkpoints/{cid}/diff", self._verb("diff", self._diff))
        add("GET", "/checkpoints/{cid}/files", self._verb("files", self._checkpoint_file))
        add("POST", "/images", self._images)
        add("POST", "/images/commit", self._images)
        add("POST", "/images/upload", self._upload)
        add("GET", "/images", self._verb("images", self._list_images))
        add("DELETE", "/images/{digest}", self._verb("delete_image", self._delete_image))
        add("GET", "/images/{digest}/export", self._export)
        add("POST", one + "/exec", self._verb("exec", self._exec))
        add("GET", one + "/exec", self._exec_socket)
        add("GET", one + "/files", self._verb("files", self._read))
        add("PUT", one + "/files", self._verb("files", self._write))
        add("GET", one + "/logs", self._logs)
        add("GET", one + "/stats", self._verb("stats", self._stats))
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self.path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        """As a killed agent: what runs, runs on; the world is kept."""
        if self._runner is not None:
            self._watchers.clear()
            await self._runner.cleanup()
            self._runner = None
        self.path.unlink(missing_ok=True)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (self.between(request, handler) if self.between else handler(request))

    # What happens on the machine by itself

    def end(self, sandbox_id: str, code: int = 0, reason: ExitReason = ExitReason.EXITED) -> None:
        box = self.world.boxes[sandbox_id]
        box.presence, box.asleep = Presence.STOPPED, None
        box.exit = Exit(reason=reason, code=code, at=datetime.now(UTC))
        self._tell(sandbox_id)

    def fall_asleep(self, sandbox_id: str, tier: Tier = Tier.WARM) -> None:
        box = self.world.boxes[sandbox_id]
        box.presence, box.asleep = Presence.ASLEEP, Asleep(tier=tier, since=datetime.now(UTC), why="idle for 1 s")
        self._tell(sandbox_id)

    def wake_up(self, sandbox_id: str) -> None:
        box = self.world.boxes[sandbox_id]
        box.presence, box.asleep = Presence.RUNNING, None
        self._tell(sandbox_id)

    def lose(self, sandbox_id: str) -> None:
        self.world.boxes[sandbox_id].presence = Presence.LOST
        self._tell(sandbox_id)

    def ask_for_checkpoint(self, sandbox_id: str, request_id: str) -> None:
        self.world.boxes[sandbox_id].wanted = {"request_id": request_id, "comment": "by myself"}
        self._tell(sandbox_id)

    # Verbs

    def _verb(self, verb: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            target = request.match_info.get("id", "")
            self.world.calls.append(f"{verb} {target or request.match_info.get('cid', '')}".strip())
            pending = self.faults.get(verb) or []
            fault = pending.pop(0) if pending else None
            if fault is Fault.BEFORE:
                return _hang_up(request)
            try:
                await asyncio.sleep(self.slow_s.get(verb, 0) + self.slow_s.get(target, 0))
                if fault is Fault.ERROR:
                    raise Failed("crun failed")
                if refused := self.refuse.get(verb):
                    raise refused
                async with self._locks.setdefault(target or verb, asyncio.Lock()):
                    answer = await handler(request)
            except SkerryError as error:
                return web.json_response(error.wire(), status=STATUS[error.code])
            return _hang_up(request) if fault is Fault.AFTER else answer

        return handle

    def _newest(self, sandbox_id: str, generation: int) -> None:
        box = self.world.boxes.get(sandbox_id)
        newest = box.generation if box else self.world.tombstones.get(sandbox_id, 0)
        if generation < newest:
            raise Conflict(f"generation {generation} is older than {newest}")

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _capacity(self, _: web.Request) -> web.Response:
        return web.json_response({**self.capacity, "kernel": "6.1", "runtime": "container"})

    async def _held(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self.held_ports})

    async def _start(self, request: web.Request) -> web.Response:
        order = Order.model_validate_json(await request.read())
        self._newest(order.sandbox_id, order.generation)
        if order.image_digest not in self.world.images:
            raise NotFound(f"there is no image {order.image_digest} here")
        box = self.world.boxes.get(order.sandbox_id)
        if box is None:
            if order.sandbox_id in self.world.tombstones:
                raise Conflict("it was deleted")
            box = Box(order, order.generation, Presence.STOPPED, self._first_disk(order))
            self.world.boxes[order.sandbox_id] = box
        self._run(box, order)
        return self._answer(order.sandbox_id)

    def _first_disk(self, order: Order) -> list[str]:
        if order.source_checkpoint is None:
            return [order.image_digest]
        if order.source_checkpoint not in self.world.checkpoints:
            raise NotFound(f"there is no checkpoint {order.source_checkpoint} here")
        return list(self.world.checkpoints[order.source_checkpoint])

    def _run(self, box: Box, order: Order) -> None:
        box.order, box.generation = order, order.generation
        if box.presence is not Presence.RUNNING and box.asleep is None:
            box.presence, box.exit = Presence.RUNNING, None
            box.starts += 1

    async def _stop(self, request: web.Request) -> web.Response:
        asked = await request.json()
        sandbox_id = request.match_info["id"]
        self._newest(sandbox_id, asked["generation"])
        box = self.world.boxes.get(sandbox_id)
        if box is None:
            raise NotFound("this machine has no such sandbox")
        box.generation, box.asleep = asked["generation"], None
        if box.presence is not Presence.STOPPED:
            box.presence = Presence.STOPPED
            box.exit = Exit(reason=ExitReason.STOPPED, code=143, at=datetime.now(UTC))
        return self._answer(sandbox_id)

    async def _restore(self, request: web.Request) -> web.Response:
        asked = await request.json()
        order = Order.model_validate(asked["order"])
        self._newest(order.sandbox_id, order.generation)
        box = self.world.boxes.get(order.sandbox_id)
        if box is None or asked["checkpoint"] not in self.world.checkpoints:
            raise NotFound("there is no such sandbox or checkpoint here")
        if box.restored != order.generation:
            box.disk = list(self.world.checkpoints[asked["checkpoint"]])
            box.presence, box.restored, box.asleep = Presence.STOPPED, order.generation, None
        self._run(box, order)
        return self._answer(order.sandbox_id)

    async def _delete(self, request: web.Request) -> web.Response:
        sandbox_id, generation = request.match_info["id"], int(request.query["generation"])
        self._newest(sandbox_id, generation)
        self.world.boxes.pop(sandbox_id, None)
        self.world.tombstones[sandbox_id] = generation
        return self._answer(sandbox_id)

    async def _checkpoint(self, request: web.Request) -> web.Response:
        sandbox_id, checkpoint_id = request.match_info["id"], request.match_info["cid"]
        box = self.world.boxes.get(sandbox_id)
        if box is None:
            raise NotFound("this machine has no such sandbox")
        self.world.checkpoints.setdefault(checkpoint_id, list(box.disk))
        asked = await request.json()
        if request_id := asked.get("request_id"):
            self.guest_answers.append((request_id, checkpoint_id))
            box.wanted = None
            self._tell(sandbox_id)
        return web.json_response({"frozen_ms": 2.5})

    async def _refused(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.guest_answers.append((asked["request_id"], asked["message"]))
        self.world.boxes[request.match_info["id"]].wanted = None
        self._tell(request.match_info["id"])
        return web.json_response({})

    async def _checkpoints(self, _: web.Request) -> web.Response:
        return web.json_response({"items": sorted(self.world.checkpoints)})

    async def _delete_checkpoint(self, request: web.Request) -> web.Response:
        self.world.checkpoints.pop(request.match_info["cid"], None)
        return web.json_response({})

    async def _diff(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [], "truncated": False, "asked": request.query_string})

    async def _checkpoint_file(self, request: web.Request) -> web.Response:
        disk = self.world.checkpoints[request.match_info["cid"]]
        return web.Response(body="\n".join(disk).encode(), content_type="application/octet-stream")

    # Images

    async def _images(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        source = asked.get("source") or asked.get("recipe") or asked["sandbox_id"]
        self.world.calls.append(f"image {source}")
        return await self._make(request, source)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.uploads.append(await request.read())
        return await self._make(request, f"upload-{len(self.uploads[-1])}")

    async def _make(self, request: web.Request, source: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        pending = self.faults.get("image") or []
        fault = pending.pop(0) if pending else None
        left_s = self.slow_s.get(source, 0.0)
        while left_s > 0:
            await answer.write(b'{"type":"progress","step":"fetch","done_bytes":1,"total_bytes":10}\n')
            await asyncio.sleep(min(0.1, left_s))
            left_s -= 0.1
        if fault is Fault.BEFORE:
            request.transport.abort()
            return answer
        if refused := self.refuse.get("image"):
            line: dict[str, Any] = {"type": "error", **refused.wire()}
        else:
            digest = "sha256:" + source.encode().hex()[:60].ljust(64, "0")
            self.world.images.add(digest)
            line = {"type": "done", "digest": digest, "size_bytes": 1000, "config": {"cmd": ["sh"]}}
        if fault is Fault.AFTER:
            request.transport.abort()
            return answer
        await answer.write(json.dumps(line).encode() + b"\n")
        return answer

    async def _list_images(self, _: web.Request) -> web.Response:
        return web.json_response({"items": [{"digest": each, "size_bytes": 1} for each in sorted(self.world.images)]})

    async def _delete_image(self, request: web.Request) -> web.Response:
        self.world.images.discard(request.match_info["digest"])
        return web.json_response({})

    async def _export(self, request: web.Request) -> web.Response:
        return web.Response(body=b"TAR " + request.query["name"].encode(), content_type="application/x-tar")

    # What passes through

    async def _exec(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["command"] == ["bad"]:
            raise Invalid("workdir: no such folder", field="workdir")
        return web.json_response({"session": "ex-1", "stdout": " ".join(asked["command"]), "exit": {"code": 0}})

    async def _exec_socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response({"items": []})
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_bytes(b"\x01spec:" + message.data.encode())
                elif message.data == b"\x00quit":
                    await socket.send_bytes(b'\x03{"code":0}')
                    await socket.close(code=1000, message=b"done")
                else:
                    await socket.send_bytes(b"\x01" + message.data[1:])
        finally:
            self.closed_streams += 1
        return socket

    async def _read(self, request: web.Request) -> web.StreamResponse:
        if request.query["path"] == "/big":
            answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            await answer.prepare(request)
            for _ in range(64):
                await answer.write(b"x" * 65536)
            return answer
        if request.query["path"] == "/none":
            raise NotFound("no such file: /none", field="path")
        return web.Response(body=b"hello", content_type="application/octet-stream")

    async def _write(self, request: web.Request) -> web.Response:
        if request.query["path"] == "/refused":
            raise Invalid("path: that is a folder", field="path")
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.json_response({"path": request.query["path"], "size_bytes": size})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await answer.prepare(request)
        try:
            await answer.write(b"line 1\n")
            while request.query.get("follow") == "true":
                await asyncio.sleep(0.02)
                await answer.write(b"more\n")
        finally:
            self.closed_streams += 1
        return answer

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"pids": 1})

    # Reports

    def _report(self, sandbox_id: str) -> Report:
        box = self.world.boxes.get(sandbox_id)
        if box is None:
            generation = self.world.tombstones.get(sandbox_id, 0)
            return Report(sandbox_id=sandbox_id, generation=generation, presence=Presence.ABSENT)
        return Report(
            sandbox_id=sandbox_id,
            generation=box.generation,
            presence=box.presence,
            address="10.201.0.2",
            exit=box.exit,
            asleep=box.asleep,
            services=box.services,
            checkpoint_wanted=box.wanted,
        )

    def _answer(self, sandbox_id: str) -> web.Response:
        self._tell(sandbox_id)
        return web.Response(text=self._report(sandbox_id).model_dump_json(), content_type="application/json")

    def tell_services(self, sandbox_id: str, *statuses: ServiceStatus) -> None:
        self.world.boxes[sandbox_id].services = statuses
        self._tell(sandbox_id)

    def _tell(self, sandbox_id: str) -> None:
        for watcher in self._watchers:
            watcher.put_nowait({"type": "report", "item": self._report(sandbox_id).model_dump(mode="json")})

    async def _reports(self, request: web.Request) -> web.StreamResponse:
        items = [self._report(each).model_dump(mode="json") for each in self.world.boxes]
        if request.query.get("watch") != "true":
            return web.json_response({"items": items})
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            await answer.write(json.dumps({"type": "snapshot", "items": items}).encode() + b"\n")
            while True:
                await answer.write(json.dumps(await queue.get()).encode() + b"\n")
        finally:
            self._watchers.discard(queue)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
