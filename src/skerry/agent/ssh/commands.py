"""One command or shell over SSH: its output, input, signals and window between an SSH channel and an exec session."""

from __future__ import annotations

import asyncio
import re
import signal

import asyncssh
from pydantic import ValidationError

from skerry.agent.execs import Session
from skerry.agent.ssh.forwarded_agent import ForwardedAgent
from skerry.agent.ssh.inside import Inside, Login, Wanted
from skerry.errors import Invalid, SkerryError
from skerry.model.exec import STDERR, WindowSize
from skerry.model.explain import explain

CHUNK_BYTES = 64 * 1024
FAILED = 255
"""What ssh itself ends with when something is wrong with the connection and not with the command."""
NUMBER_MAX = 10_000
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_GONE = (OSError, asyncssh.Error)
"""The client is not there any more."""

Channel = asyncssh.SSHServerChannel[bytes]
Reader = asyncssh.SSHReader[bytes]
Writer = asyncssh.SSHWriter[bytes]


class Command:
    """What a client wants to run, until it has ended or the client has left."""

    def __init__(self, inside: Inside, login: Login, stdin: Reader, stdout: Writer, stderr: Writer) -> None:
        self._inside = inside
        self._login = login
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._channel: Channel = stdin.channel  # pyright: ignore[reportAttributeAccessIssue]

    async def run(self) -> None:
        try:
            agent = await self._forward_agent()
            try:
                code = await self._run(agent)
            finally:
                if agent is not None:
                    await agent.close()
            self._channel.exit(code)
        except _GONE:
            return
        except ValidationError as error:
            self._refuse(explain(error))
        except SkerryError as error:
            self._refuse(error)

    def _refuse(self, error: SkerryError) -> None:
        try:
            self._stderr.write(f"skerry: {error.say}\n".encode())
            self._channel.exit(FAILED)
        except _GONE:
            return

    async def _forward_agent(self) -> ForwardedAgent | None:
        host_path = self._channel.get_agent_path()
        if host_path is None:
            return None
        agent: ForwardedAgent | None = None
        try:
            user = await self._inside.guest_user(self._login)
            agent = ForwardedAgent(user, host_path, lambda: self._inside.used(self._login))
            await agent.open()
        except BaseException as error:
            if agent is not None:
                await agent.close()
            if not isinstance(error, SkerryError):
                raise
            self._stderr.write(f"skerry: {error.say}\n".encode())
            return None  # a login without it is better than none
        return agent

    async def _run(self, agent: ForwardedAgent | None) -> int:
        session = await self._inside.start(self._login, self._wanted(agent))
        gone = asyncio.ensure_future(self._channel.wait_closed())
        output = asyncio.ensure_future(self._send(session))
        typed = asyncio.ensure_future(self._receive(session))
        try:
            await asyncio.wait((gone, output), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, output, typed):
                task.cancel()
            # Shielded: whatever ends this, the command of a client that left is ended, as a terminal that closes does.
            await asyncio.shield(asyncio.ensure_future(self._leave(session, (gone, output, typed))))
        if not session.ended.is_set():
            return FAILED
        if session.exit.oom:
            self._stderr.write(b"skerry: the command was killed: out of memory\n")
        return FAILED if session.exit.code is None else session.exit.code

    async def _leave(self, session: Session, tasks: tuple[asyncio.Task[None], ...]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        if not session.ended.is_set():
            await self._inside.execs.hang_up(session)
        self._inside.execs.release(session)

    def _wanted(self, agent: ForwardedAgent | None) -> Wanted:
        env = {name: value for name, value in self._channel.get_environment().items() if _ENV_NAME.fullmatch(name)}
        if agent is not None:
            env["SSH_AUTH_SOCK"] = agent.path
        terminal = self._channel.get_terminal_type()
        if terminal is None:
            return Wanted(self._channel.get_command(), env, None)
        if not terminal.isprintable():
            raise Invalid("the terminal's name is not printable text")
        env["TERM"] = terminal or "dumb"
        columns, rows, _, _ = self._channel.get_terminal_size()
        return Wanted(self._channel.get_command(), env, window(columns, rows))

    async def _send(self, session: Session) -> None:
        async for channel, data in session.attach(replay=True):
            writer = self._stderr if channel == STDERR else self._stdout
            writer.write(data)
            await writer.drain()

    async def _receive(self, session: Session) -> None:
        while not session.ended.is_set():
            try:
                data = await self._stdin.read(CHUNK_BYTES)
                await self._inside.used(self._login)
                if not data:
                    return await session.process.close_stdin()
                await session.process.write(data)
            except asyncssh.TerminalSizeChanged as change:
                await self._inside.execs.resize(session, window(change.width, change.height))
            except asyncssh.SignalReceived as received:
                await self._signal(session, received.signal)
            except asyncssh.BreakReceived:
                continue
            except (SkerryError, *_GONE):
                return None  # the command has closed its stdin or has just ended; its exit follows
        return None

    async def _signal(self, session: Session, name: str) -> None:
        number = getattr(signal.Signals, f"SIG{name}", None)
        if number is not None:
            await self._inside.used(self._login)  # what stands still hears no signal
            await self._inside.execs.kill(session, number)


def window(columns: int, rows: int) -> WindowSize:
    """A client without a terminal of its own says 0."""
    standard = WindowSize()
    return WindowSize(
        rows=min(rows, NUMBER_MAX) or standard.rows,
        columns=min(columns, NUMBER_MAX) or standard.columns,
    )
