"""HTTP and WebSocket doors to commands in a sandbox: one answer, a stream of frames, or a two-way channel."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import time
from collections.abc import AsyncIterator, Mapping

import anyio
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from skerry.agent.execs import Execs, Session, text, was_truncated
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.errors import Conflict, Invalid, SkerryError
from skerry.model.exec import (
    CLOSE,
    EXIT,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    STREAM_TYPE,
    ExecResult,
    ExecSpec,
    KillRequest,
    WindowSize,
)
from skerry.model.explain import explain

SUBPROTOCOL = "v5.channel.k8s.io"
FIRST_MESSAGE_S = 10.0
_FRAME = struct.Struct(">BxxxI")


def frame(channel: int, data: bytes) -> bytes:
    return _FRAME.pack(channel, len(data)) + data


class ExecRoutes:
    def __init__(self, sandboxes: Sandboxes, execs: Execs, sleeper: Sleeper) -> None:
        self._sandboxes = sandboxes
        self._execs = execs
        self._sleeper = sleeper

    def routes(self) -> list[BaseRoute]:
        base = "/sandboxes/{sandbox_id}/exec"
        return [
            Route(base, self.start, methods=["POST"]),
            Route(base, self.sessions, methods=["GET"]),
            WebSocketRoute(base, self.interactive),
            WebSocketRoute(base + "/{session_id}/attach", self.attach),
            Route(base + "/{session_id}", self.inspect, methods=["GET"]),
            Route(base + "/{session_id}/kill", self.kill, methods=["POST"]),
            Route(base + "/{session_id}/resize", self.resize, methods=["POST"]),
        ]

    async def start(self, request: Request) -> Response:
        sandbox_id: str = request.path_params["sandbox_id"]
        spec = ExecSpec.model_validate_json(await request.body())
        began = time.perf_counter()
        session = await self._begin(sandbox_id, spec, stdin=spec.stdin is not None)
        if spec.detach:
            return JSONResponse(session.record.model_dump(mode="json"), status_code=202)
        if request.headers.get("accept") == STREAM_TYPE:
            return StreamingResponse(self._frames(session), media_type=STREAM_TYPE)
        await self._until_ended_or_left(request, session)
        result = ExecResult(
            session=session.record.id,
            exit=session.exit,
            stdout=text(session, STDOUT),
            stderr=text(session, STDERR),
            truncated=was_truncated(session),
            duration_ms=round((time.perf_counter() - began) * 1000, 3),
        )
        self._execs.release(session)
        return Response(result.model_dump_json(), media_type="application/json")

    async def _begin(self, sandbox_id: str, spec: ExecSpec, *, stdin: bool) -> Session:
        async with self._sleeper.awake(sandbox_id, "exec"):
            plan = self._sandboxes.exec_plan(sandbox_id, spec, stdin=stdin)
            return await self._execs.start(sandbox_id, spec, plan)

    async def _until_ended_or_left(self, request: Request, session: Session) -> None:
        ended = asyncio.ensure_future(session.ended.wait())
        left = asyncio.ensure_future(request.receive())  # the body is read, so the next message is the disconnect
        await asyncio.wait((ended, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if not ended.done():
            await self._execs.hang_up(session)
        await ended

    async def _frames(self, session: Session) -> AsyncIterator[bytes]:
        try:
            async for channel, data in session.attach(replay=True):
                yield frame(channel, data)
            exit = session.exit.model_dump() | {"session": session.record.id}
            yield frame(EXIT, _json(exit))
        finally:
            # Shielded: Starlette cancels this when the client leaves, and the command must be ended all the same.
            with anyio.CancelScope(shield=True):
                if not session.ended.is_set():
                    await self._execs.hang_up(session)
            self._execs.release(session)

    async def sessions(self, request: Request) -> Response:
        items = self._execs.all(request.path_params["sandbox_id"])
        return JSONResponse({"items": [item.model_dump(mode="json") for item in items]})

    def _session(self, request: Request | WebSocket) -> Session:
        return self._execs.get(request.path_params["sandbox_id"], request.path_params["session_id"])

    async def inspect(self, request: Request) -> Response:
        return JSONResponse(self._session(request).record.model_dump(mode="json"))

    async def kill(self, request: Request) -> Response:
        session = self._session(request)
        asked = KillRequest.model_validate_json(await request.body() or b"{}")
        if session.ended.is_set():
            raise Conflict("the command has ended already", because=f"{session.record.id}: {session.record.exit}")
        await self._sleeper.wake(session.record.sandbox, "exec")  # what stands still hears no signal
        name = asked.signal.removeprefix("SIG")
        await self._execs.kill(session, signal.Signals[f"SIG{name}"])
        return JSONResponse(session.record.model_dump(mode="json"))

    async def resize(self, request: Request) -> Response:
        session = self._session(request)
        await self._execs.resize(session, WindowSize.model_validate_json(await request.body()))
        return JSONResponse(session.record.model_dump(mode="json"))

    async def interactive(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol=_chosen(socket))
        try:
            sandbox_id = socket.path_params["sandbox_id"]
            first = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE_S)
            spec = ExecSpec.model_validate_json(first)
            session = await self._begin(sandbox_id, spec.model_copy(update={"stdin": None}), stdin=True)
        except (SkerryError, ValidationError, TimeoutError, KeyError) as error:
            await _refuse(socket, error)
            return
        except WebSocketDisconnect:
            return
        try:
            await self._converse(socket, session, replay=True)
        finally:
            if not session.ended.is_set() and not session.record.detached:
                await self._execs.hang_up(session)
            self._execs.release(session)

    async def attach(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol=_chosen(socket))
        try:
            session = self._session(socket)
            await self._sleeper.wake(session.record.sandbox, "exec")
        except SkerryError as error:
            await _refuse(socket, error)
            return
        await self._converse(socket, session, replay=True)

    async def _converse(self, socket: WebSocket, session: Session, *, replay: bool) -> None:
        sending = asyncio.ensure_future(self._send(socket, session, replay=replay))
        receiving = asyncio.ensure_future(self._receive(socket, session))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send(self, socket: WebSocket, session: Session, *, replay: bool) -> None:
        async for channel, data in session.attach(replay=replay):
            await socket.send_bytes(bytes((channel,)) + data)
        exit = session.exit.model_dump() | {"session": session.record.id}
        await socket.send_bytes(bytes((EXIT,)) + _json(exit))
        await socket.close()

    async def _receive(self, socket: WebSocket, session: Session) -> None:
        while True:
            try:
                message = await socket.receive_bytes()
            except (WebSocketDisconnect, KeyError, RuntimeError):
                return
            if not message or session.ended.is_set():
                continue
            channel, data = message[0], message[1:]
            try:
                if channel == STDIN:
                    await self._sleeper.wake(session.record.sandbox, "terminal" if session.record.tty else "exec")
                    await session.process.write(data)
                elif channel == RESIZE:
                    await session.process.resize(WindowSize.model_validate_json(data))
                elif channel == CLOSE and data[:1] == bytes((STDIN,)):
                    await session.process.close_stdin()
            except (SkerryError, OSError, ValidationError):
                continue  # the command has closed its stdin or has just ended; its exit follows


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body).encode()


def _chosen(socket: WebSocket) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", []) else None


async def _refuse(socket: WebSocket, error: Exception) -> None:
    """An error after the handshake: the error body as channel 2 text would look like output, so it goes as EXIT."""
    if isinstance(error, ValidationError):
        error = explain(error)
    elif not isinstance(error, SkerryError):
        error = Invalid("the first message must be the exec spec as JSON text, within 10 s")
    await socket.send_bytes(bytes((EXIT,)) + _json({"code": None, **error.wire()}))
    await socket.close(code=1008)
