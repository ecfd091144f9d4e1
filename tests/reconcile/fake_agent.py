"""An agent without a machine: the same HTTP API on a unix socket, its sandboxes in memory, and failures on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from skerry.errors import Conflict, Failed, Invalid, NotFound, SkerryError
from skerry.model.guest_service import GuestServiceStatus, HealthState, HealthStatus
from skerry.model.order import Order, Presence, Report
from skerry.model.sandbox import Exit, ExitReason
from skerry.model.sleep import Asleep, Tier
from skerry.model.stats import Stats, Work, WorkAsked, Works
from skerry.model.wire import STATUS
from tests.reconcile.fake_models import FakeModels
from tests.reconcile.fake_passage import FakePassage
from tests.reconcile.fake_world import Box, Fault, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RUNS = (Presence.RUNNING, Presence.ASLEEP)


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
        self.begin_as = HealthState.HEALTHY
        """Of those whose health is declared: what they are said to be as soon as they run."""
        self.guest_answers: list[tuple[str, str]] = []
        self.held_ports: list[dict[str, Any]] = []
        """What other programs of the machine listen on."""
        self.used = {"memory_bytes": 0, "disk_bytes": 0}
        self.cores = 0.0
        """That each sandbox is said to use."""
        self.passage = FakePassage()
        self.capacity: dict[str, Any] = {
            "cpu": 4.0,
            "memory_bytes": 8 * 1024**3,
            "disk_bytes": 10**11,
            "disk_free_bytes": 10**11,
        }
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
        add("GET", "/volumes", self._verb("volumes", self._volumes))
        add("PUT", "/volumes/{cid}", self._verb("create_volume", self._create_volume))
        add("POST", "/volumes/{cid}/resize", self._verb("resize_volume", self._resize_volume))
        add("DELETE", "/volumes/{cid}", self._verb("delete_volume", self._delete_volume))
        FakeModels(self.world.models, self.world.calls, self._make).add_routes(add, self._verb)
        add("POST", "/images", self._images)
        add("POST", "/images/commit", self._images)
        add("POST", "/images/upload", self._upload)
        add("GET", "/images", self._verb("images", self._list_images))
        add("DELETE", "/images/{digest}", self._verb("delete_image", self._delete_image))
        add("GET", "/images/{digest}/export", self._export)
        self.passage.add_routes(add, self._verb)
        add("DELETE", "/job-logs/{id}", self._verb("forget_logs", self._forget_logs))
        add("POST", "/busy", self._verb("busy", self._busy))
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
        if request.query.get("start") == "false" and (box is None or box.presence not in RUNS):
            if box is None:
                raise NotFound("this machine has no such sandbox")
            return self._answer(order.sandbox_id)
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
        if box.exit is not None and box.generation == order.generation:
            return  # it has run by this order
        box.order, box.generation = order, order.generation
        if box.presence is not Presence.RUNNING and box.asleep is None:
            box.presence, box.exit = Presence.RUNNING, None
            box.starts += 1
            if order.spec.health is not None:
                box.health = HealthStatus(state=self.begin_as, since=datetime.now(UTC))

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
        if self.world.boxes.pop(sandbox_id, None) is not None and "keep_log" in request.query:
            self.world.logs.add(request.query["keep_log"])
        self.world.tombstones[sandbox_id] = generation
        return self._answer(sandbox_id)

    async def _forget_logs(self, request: web.Request) -> web.Response:
        kept = [each for each in self.world.logs if each.startswith(request.match_info["id"])]
        self.world.logs.difference_update(kept)
        return web.json_response({})

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

    # Volumes

    async def _volumes(self, _: web.Request) -> web.Response:
        found = self.world.volumes.items()
        return web.json_response({"items": [{"id": each, "used_bytes": kept["used_bytes"]} for each, kept in found]})

    async def _create_volume(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["source"] is not None and asked["source"] not in self.world.volumes:
            raise NotFound(f"this machine has no volume {asked['source']}")
        content = [] if asked["source"] is None else list(self.world.volumes[asked["source"]]["content"])
        self.world.volumes.setdefault(request.match_info["cid"], {**asked, "used_bytes": 0, "content": content})
        return web.json_response({})

    async def _resize_volume(self, request: web.Request) -> web.Response:
        kept, asked = self.world.volumes[request.match_info["cid"]], await request.json()
        if asked["size_bytes"] < kept["used_bytes"]:
            raise Invalid("size: the volume holds more already", field="size")
        kept |= asked
        return web.json_response({})

    async def _delete_volume(self, request: web.Request) -> web.Response:
        self.world.volumes.pop(request.match_info["cid"], None)
        return web.json_response({})

    # Images

    async def _images(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        source = asked.get("source") or asked.get("recipe") or asked["sandbox_id"]
        self.world.calls.append(f"image {source}")
        return await self._make(request, source, partial(self._have_image, source))

    def _have_image(self, source: str) -> dict[str, Any]:
        digest = "sha256:" + source.encode().hex()[:60].ljust(64, "0")
        self.world.images.add(digest)
        return {"digest": digest, "size_bytes": 1000, "config": {"cmd": ["sh"]}}

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.uploads.append(await request.read())
        source = f"upload-{len(self.uploads[-1])}"
        return await self._make(request, source, partial(self._have_image, source))

    async def _make(self, request: web.Request, source: str, have: Callable[[], dict[str, Any]]) -> web.StreamResponse:
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
            line = {"type": "done", **have()}
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

    async def _stats(self, request: web.Request) -> web.Response:
        box = self.world.boxes.get(request.match_info["id"])
        if box is None:
            raise NotFound("this machine has no such sandbox")
        names = ("cpu_s", "memory_peak_bytes", "oom_kills", "network_received_bytes", "network_sent_bytes")
        spec = box.order.spec
        ceilings = {"memory_limit_bytes": spec.memory, "disk_limit_bytes": spec.disk, "pids_limit": spec.pids}
        found = {"at": datetime.now(UTC), **dict.fromkeys(names, 0), **ceilings, "pids": 1, **self.used}
        return web.json_response(Stats.model_validate(found).model_dump(mode="json"))

    async def _busy(self, request: web.Request) -> web.Response:
        asked = WorkAsked.model_validate_json(await request.read())
        now = datetime.now(UTC)
        there = [each for each in asked.sandboxes if each in self.world.boxes]
        works = {each: Work(cpu_s=self.cores * now.timestamp()) for each in there}
        told = Works(at=now, of=works, gpu_unknown="nvidia-smi is not there")
        return web.Response(text=told.model_dump_json(), content_type="application/json")

    # Reports

    def report(self, sandbox_id: str) -> Report:
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
            health=box.health if box.presence is Presence.RUNNING else None,
            checkpoint_wanted=box.wanted,
        )

    def _answer(self, sandbox_id: str) -> web.Response:
        self._tell(sandbox_id)
        return web.Response(text=self.report(sandbox_id).model_dump_json(), content_type="application/json")

    def tell_services(self, sandbox_id: str, *statuses: GuestServiceStatus) -> None:
        self.world.boxes[sandbox_id].services = statuses
        self._tell(sandbox_id)

    def tell_health(self, sandbox_id: str, state: HealthState, reason: str | None = None) -> None:
        self.world.boxes[sandbox_id].health = HealthStatus(state=state, reason=reason, since=datetime.now(UTC))
        self._tell(sandbox_id)

    def _tell(self, sandbox_id: str) -> None:
        self.tell(self.report(sandbox_id))

    def tell(self, report: Report) -> None:
        """What the stream says, be it true or not."""
        for watcher in self._watchers:
            watcher.put_nowait({"type": "report", "item": report.model_dump(mode="json")})

    async def _reports(self, request: web.Request) -> web.StreamResponse:
        items = [self.report(each).model_dump(mode="json") for each in self.world.boxes]
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
