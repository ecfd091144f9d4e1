"""`sandbox.commands`: run commands in a sandbox, wait for them or leave them running. On asyncio."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client import result
from skerry.client.calls import commands as calls
from skerry.client.calls.commands import RunOptions
from skerry.client.commands import OnText, deliver
from skerry.client.result import Collector, CommandResult, Piece
from skerry.client.transport_async import AsyncTransport
from skerry.errors import Unavailable

if TYPE_CHECKING:
    from skerry.client.exec_socket_async import AsyncExecSocket
    from skerry.model.exec import ExecSession


class AsyncCommands:
    def __init__(self, transport: AsyncTransport, sandbox: str) -> None:
        self._transport = transport
        self._sandbox = sandbox

    async def run(
        self,
        command: str | Sequence[str],
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = False,
        **options: Unpack[RunOptions],
    ) -> CommandResult:
        """Run to the end. Text goes through /bin/sh; a list is run as it is. `check` raises CommandFailed."""
        body = calls.exec_body(command, options)
        if on_stdout is None and on_stderr is None:
            found = result.from_body(await self._transport.json(calls.run(self._sandbox, body)))
            return result.checked(found, check)
        collector = Collector(body.get("output_bytes_max", result.KEPT_BYTES_MAX))
        async with await self._transport.stream(calls.stream(self._sandbox, body)) as stream:
            frames = result.wire.Frames()
            async for chunk in stream:
                for frame in frames.feed(chunk):
                    await _deliver(collector.take(frame), on_stdout, on_stderr)
        if not collector.ended:
            raise Unavailable("the connection ended before the command did")
        return result.checked(collector.result(), check)

    async def start(self, command: str | Sequence[str], **options: Unpack[RunOptions]) -> AsyncCommand:
        """Leave it running in the sandbox, with or without a client; its output is kept for `output_bytes_max`."""
        session = await self._transport.send(calls.start(self._sandbox, calls.exec_body(command, options)))
        return AsyncCommand(self._transport, self._sandbox, session.id)

    async def open(
        self,
        command: str | Sequence[str],
        *,
        tty: bool = False,
        rows: int = 24,
        columns: int = 80,
        **options: Unpack[RunOptions],
    ) -> AsyncExecSocket:
        """Run it with stdin to write to, on a terminal of its own if `tty`. Closing the socket ends the command."""
        size = {"rows": rows, "columns": columns} if tty else None
        body = calls.exec_body(command, options, tty=tty or None, size=size)
        socket = await self._transport.exec_socket(calls.path(self._sandbox))
        await socket.send_spec(body)
        return socket

    async def list(self) -> list[ExecSession]:
        return await self._transport.send(calls.list_all(self._sandbox))

    async def connect(self, session: str) -> AsyncCommand:
        """The command that another program, or an earlier run of this one, left running."""
        found = await self._transport.send(calls.get(self._sandbox, session))
        return AsyncCommand(self._transport, self._sandbox, found.id)


class AsyncCommand:
    """A command that runs, or ran, detached."""

    def __init__(self, transport: AsyncTransport, sandbox: str, session: str) -> None:
        self.id = session
        self._transport = transport
        self._sandbox = sandbox

    async def info(self) -> ExecSession:
        return await self._transport.send(calls.get(self._sandbox, self.id))

    async def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = False,
    ) -> CommandResult:
        """Its result, with the output kept so far and all further; DeadlineExceeded leaves it running."""
        collector = Collector()
        async with await self.attach() as socket:
            async for frame in socket.frames(timeout_s):
                await _deliver(collector.take(frame), on_stdout, on_stderr)
        return result.checked(collector.result(), check)

    async def output(self) -> AsyncIterator[Piece]:
        """("stdout" or "stderr", text) as it comes, from the oldest kept to the command's end."""
        collector = Collector(0)
        async with await self.attach() as socket:
            async for frame in socket.frames():
                piece = collector.take(frame)
                if piece:
                    yield piece

    async def attach(self) -> AsyncExecSocket:
        """Its input and output; closing this leaves the command running."""
        return await self._transport.exec_socket(calls.attach_path(self._sandbox, self.id))

    async def kill(self, signal: str = "TERM") -> None:
        await self._transport.json(calls.kill(self._sandbox, self.id, signal))

    async def resize(self, rows: int, columns: int) -> None:
        await self._transport.json(calls.resize(self._sandbox, self.id, rows, columns))


async def _deliver(piece: Piece | None, on_stdout: OnText | None, on_stderr: OnText | None) -> None:
    """Callbacks may be plain functions or coroutine functions."""
    said = deliver(piece, on_stdout, on_stderr)
    if inspect.isawaitable(said):
        await said
