"""`sandbox.commands`: run commands in a sandbox, wait for them or leave them running. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

from skerry.client import result
from skerry.client.calls import commands as calls
from skerry.client.calls.commands import RunOptions
from skerry.client.result import Collector, CommandResult, Piece
from skerry.client.transport import Transport
from skerry.errors import Unavailable

if TYPE_CHECKING:
    from skerry.client.exec_socket import ExecSocket
    from skerry.model.exec import ExecSession

OnText = Callable[[str], object]


class Commands:
    def __init__(self, transport: Transport, sandbox: str) -> None:
        self._transport = transport
        self._sandbox = sandbox

    def run(
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
            found = result.from_body(self._transport.json(calls.run(self._sandbox, body)))
            return result.checked(found, check)
        collector = Collector(body.get("output_bytes_max", result.KEPT_BYTES_MAX))
        with self._transport.stream(calls.stream(self._sandbox, body)) as stream:
            frames = result.wire.Frames()
            for chunk in stream:
                for frame in frames.feed(chunk):
                    deliver(collector.take(frame), on_stdout, on_stderr)
        if not collector.ended:
            raise Unavailable("the connection ended before the command did")
        return result.checked(collector.result(), check)

    def start(self, command: str | Sequence[str], **options: Unpack[RunOptions]) -> Command:
        """Leave it running in the sandbox, with or without a client; its output is kept for `output_bytes_max`."""
        session = self._transport.send(calls.start(self._sandbox, calls.exec_body(command, options)))
        return Command(self._transport, self._sandbox, session.id)

    def open(
        self,
        command: str | Sequence[str],
        *,
        tty: bool = False,
        rows: int = 24,
        columns: int = 80,
        **options: Unpack[RunOptions],
    ) -> ExecSocket:
        """Run it with stdin to write to, on a terminal of its own if `tty`. Closing the socket ends the command."""
        size = {"rows": rows, "columns": columns} if tty else None
        body = calls.exec_body(command, options, tty=tty or None, size=size)
        socket = self._transport.exec_socket(calls.path(self._sandbox))
        socket.send_spec(body)
        return socket

    def list(self) -> list[ExecSession]:
        return self._transport.send(calls.list_all(self._sandbox))

    def connect(self, session: str) -> Command:
        """The command that another program, or an earlier run of this one, left running."""
        found = self._transport.send(calls.get(self._sandbox, session))
        return Command(self._transport, self._sandbox, found.id)


class Command:
    """A command that runs, or ran, detached."""

    def __init__(self, transport: Transport, sandbox: str, session: str) -> None:
        self.id = session
        self._transport = transport
        self._sandbox = sandbox

    def info(self) -> ExecSession:
        return self._transport.send(calls.get(self._sandbox, self.id))

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        check: bool = False,
    ) -> CommandResult:
        """Its result, with the output kept so far and all further; DeadlineExceeded leaves it running."""
        collector = Collector()
        with self.attach() as socket:
            for frame in socket.frames(timeout_s):
                deliver(collector.take(frame), on_stdout, on_stderr)
        return result.checked(collector.result(), check)

    def output(self) -> Iterator[Piece]:
        """("stdout" or "stderr", text) as it comes, from the oldest kept to the command's end."""
        collector = Collector(0)
        with self.attach() as socket:
            for frame in socket.frames():
                piece = collector.take(frame)
                if piece:
                    yield piece

    def attach(self) -> ExecSocket:
        """Its input and output; closing this leaves the command running."""
        return self._transport.exec_socket(calls.attach_path(self._sandbox, self.id))

    def kill(self, signal: str = "TERM") -> None:
        self._transport.json(calls.kill(self._sandbox, self.id, signal))

    def resize(self, rows: int, columns: int) -> None:
        self._transport.json(calls.resize(self._sandbox, self.id, rows, columns))


def deliver(piece: Piece | None, on_stdout: OnText | None, on_stderr: OnText | None) -> object:
    """Hand text to the callback of its stream; what that returns, for callers whose callbacks are awaitable."""
    if piece is None:
        return None
    name, text = piece
    callback = on_stdout if name == "stdout" else on_stderr
    return callback(text) if callback else None
