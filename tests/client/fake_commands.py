"""Commands of the fake control plane: processes of this machine behind the exec routes and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from skerry.errors import Conflict, NotFound, SkerryError
from skerry.model.exec import STREAM_TYPE, ExecExit, ExecResult, ExecSession, ExecSpec
from skerry.model.identity import make_id
from skerry.model.sandbox import S

if TYPE_CHECKING:
    from tests.client.fake_control import FakeControl


class FakeSession:
    def __init__(self, record: ExecSession, process: asyncio.subprocess.Process) -> None:
        self.record = record
        self.process = process
        self.kept: list[tuple[int, bytes]] = []
        self.news = asyncio.Event()
        self.sizes: list[Any] = []

    def say(self, channel: int, data: bytes) -> None:
        self.kept.append((channel, data))
        self.news.set()
        self.news = asyncio.Event()


class FakeCommands:
    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self.sessions: dict[str, FakeSession] = {}
        self.specs: list[ExecSpec] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self, box: str) -> list[web.RouteDef]:
        return [
            web.post(box + "/exec", self._start),
            web.get(box + "/exec", self._list_or_open),
            web.get(box + "/exec/{session}", self._get),
            web.get(box + "/exec/{session}/attach", self._attach),
            web.post(box + "/exec/{session}/kill", self._kill),
        ]

    async def close(self) -> None:
        """What still runs ends here: a process that outlives the loop complains at some later test."""
        for session in self.sessions.values():
            if session.record.exit is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(session.process.pid, signal.SIGKILL)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, request: web.Request, spec: ExecSpec) -> FakeSession:
        sandbox = self._control.find(request.match_info["ref"])
        if sandbox.state is not S.RUNNING:
            raise Conflict(f"{sandbox.name} is {sandbox.state.value}")
        self.specs.append(spec)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **spec.env},
                start_new_session=True,
            )
        except FileNotFoundError:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", "exit 127", stdin=-1, stdout=-1, stderr=-1, start_new_session=True
            )
        record = ExecSession(
            id=make_id("exec", os.urandom(6)),
            sandbox=sandbox.id,
            command=spec.command,
            tty=spec.tty,
            detached=spec.detach,
            started_at=datetime.now(UTC),
        )
        session = FakeSession(record, process)
        self.sessions[record.id] = session
        task = asyncio.create_task(self._look_after(session, spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return session

    async def _look_after(self, session: FakeSession, spec: ExecSpec) -> None:
        process = session.process
        assert process.stdin is not None
        if spec.stdin is not None:
            process.stdin.write(spec.stdin.encode())
            process.stdin.close()

        async def read(channel: int, stream: asyncio.StreamReader) -> None:
            while data := await stream.read(4096):
                session.say(channel, data)

        assert process.stdout is not None
        assert process.stderr is not None
        timed_out = False
        try:
            async with asyncio.timeout(spec.timeout_s):
                await asyncio.gather(read(1, process.stdout), read(2, process.stderr), process.wait())
        except TimeoutError:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
        end = ExecExit(code=124 if timed_out else code if code >= 0 else 128 - code, timed_out=timed_out)
        session.record = session.record.model_copy(update={"exit": end, "ended_at": datetime.now(UTC)})
        session.say(3, json.dumps({**end.model_dump(), "session": session.record.id}).encode())

    async def _frames(self, session: FakeSession) -> Any:
        at = 0
        while True:
            while at < len(session.kept):
                channel, data = session.kept[at]
                at += 1
                yield channel, data
                if channel == 3:
                    return
            await session.news.wait()

    async def _start(self, request: web.Request) -> web.StreamResponse:
        spec = ExecSpec.model_validate(await request.json())
        session = await self._run(request, spec)
        if spec.detach:
            return web.json_response(session.record.model_dump(mode="json"), status=202)
        assert session.process.stdin is not None
        session.process.stdin.close()
        if request.headers.get("Accept") == STREAM_TYPE:
            response = web.StreamResponse(headers={"Content-Type": STREAM_TYPE})
            await response.prepare(request)
            async for channel, data in self._frames(session):
                await response.write(struct.pack(">BxxxI", channel, len(data)) + data)
            return response
        out: dict[int, bytes] = {1: b"", 2: b""}
        async for channel, data in self._frames(session):
            if channel in out:
                out[channel] += data
        assert session.record.exit is not None
        result = ExecResult(
            session=session.record.id,
            exit=session.record.exit,
            stdout=out[1].decode(errors="replace")[: spec.output_bytes_max],
            stderr=out[2].decode(errors="replace"),
            truncated=len(out[1]) > spec.output_bytes_max,
            duration_ms=1.0,
        )
        return web.json_response(result.model_dump(mode="json"))

    async def _list_or_open(self, request: web.Request) -> web.StreamResponse:
        sandbox = self._control.find(request.match_info["ref"])
        if request.headers.get("Upgrade", "").lower() != "websocket":
            found = [session.record for session in self.sessions.values() if session.record.sandbox == sandbox.id]
            return web.json_response({"items": [record.model_dump(mode="json") for record in found]})
        socket = await self._opened(request)
        spec = ExecSpec.model_validate_json((await socket.receive()).data)
        try:
            session = await self._run(request, spec)
        except SkerryError as error:
            await socket.send_bytes(b"\x03" + json.dumps({"code": None, **error.wire()}).encode())
            await socket.close()
            return socket
        await self._converse(socket, session)
        return socket

    async def _opened(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        return socket

    def _session(self, request: web.Request) -> FakeSession:
        self._control.find(request.match_info["ref"])
        try:
            return self.sessions[request.match_info["session"]]
        except KeyError:
            raise NotFound(f"there is no session {request.match_info['session']!r}") from None

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._session(request).record.model_dump(mode="json"))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        socket = await self._opened(request)
        await self._converse(socket, session)
        return socket

    async def _kill(self, request: web.Request) -> web.Response:
        session = self._session(request)
        name = (await request.json())["signal"]
        os.killpg(session.process.pid, getattr(signal, f"SIG{name}"))
        return web.json_response(session.record.model_dump(mode="json"))

    async def _converse(self, socket: web.WebSocketResponse, session: FakeSession) -> None:
        async def listen() -> None:
            stdin = session.process.stdin
            assert stdin is not None
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                channel, data = message.data[0], message.data[1:]
                if channel == 0:
                    stdin.write(data)
                elif channel == 4:
                    session.sizes.append(json.loads(data))
                elif channel == 255:
                    stdin.close()
            if not session.record.detached and session.record.exit is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(session.process.pid, signal.SIGHUP)

        listening = asyncio.create_task(listen())
        with contextlib.suppress(ConnectionError):
            async for channel, data in self._frames(session):
                await socket.send_bytes(bytes((channel,)) + data)
        await socket.close()
        await listening
