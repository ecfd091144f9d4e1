"""The socket inside a sandbox for what its spec lets it ask of itself: a checkpoint, a lease; nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from skerry.agent.http_errors import error_handlers
from skerry.errors import Invalid, LimitReached, Unavailable
from skerry.model.checkpoint import CheckpointRequest
from skerry.model.explain import explain
from skerry.model.fields import Frozen
from skerry.model.identity import make_id
from skerry.model.sandbox import SandboxSpec
from skerry.model.sleep import Lease, LeaseRequest

ANSWER_S = 30.0
BODY_BYTES_MAX = 8192
CONNECTIONS_MAX = 8
"""Of one sandbox at one time. The others wait in the kernel, where they cost only the sandbox."""
PAUSE_S = 0.05
"""Between two connections of one sandbox, each good for one request: asking all day must not keep us from others."""


class _Connection(HttpToolsProtocol):
    """One request; then it is closed and its place is free again."""

    def __init__(self, config: uvicorn.Config, state: ServerState, places: asyncio.Semaphore) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._places = places

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._places.release()


M = TypeVar("M", bound=Frozen)


class GuestDoor:
    """A guest's request becomes part of its sandbox's report; control makes the checkpoint as any other, so that
    limits, history and numbering are the same; then the guest is answered."""

    def __init__(
        self,
        *,
        folder: Path,
        chance: Callable[[int], bytes],
        tell: Callable[[str, dict[str, str] | None], Awaitable[None]],
        grant: Callable[[str, LeaseRequest], Awaitable[Lease]],
    ) -> None:
        self._folder = folder
        self._chance = chance
        self._tell = tell
        self._grant = grant
        self._doors: dict[str, asyncio.Task[None]] = {}
        self._allowed: dict[str, tuple[bool, bool]] = {}
        """What each door was opened for: a start may change that."""
        self._waiting: dict[str, tuple[str, asyncio.Future[str]]] = {}

    def folder(self, sandbox_id: str) -> Path:
        return self._folder / sandbox_id

    async def open(self, sandbox_id: str, spec: SandboxSpec, *, uid: int) -> None:
        """With the verbs that its spec allows. `uid`: the host's id of the guest's root, who owns the socket."""
        allowed = (spec.self_checkpoint, spec.self_lease)
        if sandbox_id in self._doors:
            if self._allowed.get(sandbox_id) == allowed:
                return
            await self.close(sandbox_id)
        folder = self.folder(sandbox_id)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        path = folder / "api.sock"
        path.unlink(missing_ok=True)

        async def checkpoint(request: Request) -> Response:
            return await self._checkpoint(sandbox_id, await _read(request, CheckpointRequest))

        async def lease(request: Request) -> Response:
            granted = await self._grant(sandbox_id, await _read(request, LeaseRequest))
            return JSONResponse(granted.model_dump(mode="json"), status_code=201)

        routes: list[Route] = []
        if spec.self_checkpoint:
            routes.append(Route("/v1/checkpoints", checkpoint, methods=["POST"]))
        if spec.self_lease:
            routes.append(Route("/v1/leases", lease, methods=["POST"]))
        app = Starlette(routes=routes, exception_handlers=error_handlers())
        config = uvicorn.Config(app, lifespan="off", access_log=False, log_config=None)
        config.load()
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            door.bind(str(path))
            path.chmod(0o600)
            os.chown(path, uid, uid)
            door.listen(CONNECTIONS_MAX)
        except BaseException:
            door.close()
            raise
        self._allowed[sandbox_id] = allowed
        self._doors[sandbox_id] = asyncio.ensure_future(self._let_in(door, config))

    async def _let_in(self, door: socket.socket, config: uvicorn.Config) -> None:
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(CONNECTIONS_MAX)
        state = ServerState()
        state.default_headers = [(b"connection", b"close")]
        with contextlib.closing(door):
            while True:
                await places.acquire()
                try:
                    connection, _ = await loop.sock_accept(door)
                    await loop.connect_accepted_socket(lambda: _Connection(config, state, places), connection)
                except OSError:  # it went away meanwhile, or this machine has no descriptor left
                    places.release()
                await asyncio.sleep(PAUSE_S)

    async def close(self, sandbox_id: str) -> None:
        door = self._doors.pop(sandbox_id, None)
        self._allowed.pop(sandbox_id, None)
        if door is not None:
            door.cancel()
        if self.folder(sandbox_id).exists():
            await asyncio.to_thread(shutil.rmtree, self.folder(sandbox_id))

    async def _checkpoint(self, sandbox_id: str, asked: CheckpointRequest) -> Response:
        if sandbox_id in self._waiting:
            raise LimitReached("a checkpoint asked for by this sandbox is still being made", retry_after_s=1)
        request_id = make_id("request", self._chance(6))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[sandbox_id] = (request_id, answer)
        try:
            await self._tell(sandbox_id, {"request_id": request_id, "comment": asked.comment})
            checkpoint_id = await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            raise Unavailable("no answer from the control plane; try again", retry_after_s=5) from None
        finally:
            self._waiting.pop(sandbox_id, None)
            await self._tell(sandbox_id, None)
        return JSONResponse({"id": checkpoint_id}, status_code=201)

    def answer(self, request_id: str, checkpoint_id: str) -> None:
        for waiting_id, future in self._waiting.values():
            if waiting_id == request_id and not future.done():
                future.set_result(checkpoint_id)

    def refuse(self, request_id: str, message: str) -> None:
        for waiting_id, future in self._waiting.values():
            if waiting_id == request_id and not future.done():
                future.set_exception(LimitReached(message))

    async def close_all(self) -> None:
        for door in self._doors.values():
            door.cancel()
        await asyncio.gather(*self._doors.values(), return_exceptions=True)
        self._doors.clear()


async def _read(request: Request, kind: type[M]) -> M:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Invalid(f"a request is at most {BODY_BYTES_MAX} bytes")
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise explain(error) from None
