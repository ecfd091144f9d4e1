"""Commands that run in sandboxes: sessions that can be listed, watched by several, reattached and killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from skerry.agent.transcripts import Transcript
from skerry.clock import Clock
from skerry.errors import Conflict, LimitReached, NotFound
from skerry.model.exec import ExecExit, ExecSession, ExecSpec, WindowSize
from skerry.model.identity import make_id
from skerry.runtime.contract import ExecPlan, Process, Runtime

WATCHERS_MAX = 8
"""Clients attached to one session at one time."""
QUEUE_CHUNKS_MAX = 32
"""Chunks of up to 64 KiB a slow client may lag behind before the command is held back."""
ENDED_KEPT_S = 600.0
"""How long a detached session that ended can still be asked about."""
HANGUP_GRACE_S = 1.0
COMMAND_SHOWN_MAX = 80
TIMED_OUT = 124
KILLED = 128 + signal.SIGKILL

Chunk = tuple[int, bytes]


class Vigil(Protocol):
    """Who decides on sleep, as commands see it."""

    def kept(self, sandbox_id: str, by: str) -> AbstractContextManager[None]: ...
    def touch(self, sandbox_id: str, by: str) -> None: ...


class Session:
    """One command. Its output is kept up to a limit and handed to every client attached."""

    def __init__(self, record: ExecSession, process: Process | None, transcript: Transcript) -> None:
        self.record = record
        self._process = process
        self.transcript = transcript
        self.ended = asyncio.Event()
        self.timed_out = False
        self.cut_off = False
        """Its sandbox is being stopped under it."""
        self._watchers: set[asyncio.Queue[Chunk | None]] = set()

    @property
    def process(self) -> Process:
        """Raises Conflict for one that ended before this agent began."""
        if self._process is None:
            raise Conflict("the command has ended already")
        return self._process

    @property
    def exit(self) -> ExecExit:
        assert self.record.exit is not None
        return self.record.exit

    async def hand_on(self, chunk: Chunk) -> None:
        self.transcript.keep(*chunk)
        for queue in list(self._watchers):
            # Waits for a slow client: output is held back in the pipe, never dropped.
            await queue.put(chunk)

    async def finish(self) -> None:
        self.ended.set()
        for queue in list(self._watchers):
            await queue.put(None)

    async def attach(self, *, replay: bool) -> AsyncIterator[Chunk]:
        """Output kept so far (with `replay`), then as it comes, until the command has ended."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise LimitReached(f"at most {WATCHERS_MAX} clients attach to one session")
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue(maxsize=QUEUE_CHUNKS_MAX)
        past = self.transcript.all() if replay else []
        if not self.ended.is_set():
            self._watchers.add(queue)
        try:
            for chunk in past:
                yield chunk
            while queue in self._watchers and (item := await queue.get()) is not None:
                yield item
        finally:
            self._watchers.discard(queue)
            while not queue.empty():  # a pump that waits to put must not wait for a client that left
                queue.get_nowait()


class Execs:
    def __init__(
        self,
        *,
        runtime: Runtime,
        folder: Path,
        clock: Clock,
        chance: Callable[[int], bytes],
        sessions_max: int,
        oom_rose: Callable[[str], Awaitable[bool]],
        vigil: Vigil,
    ) -> None:
        self._runtime = runtime
        self._folder = folder
        self._clock = clock
        self._chance = chance
        self._sessions_max = sessions_max
        self._oom_rose = oom_rose
        self._vigil = vigil
        self._sessions: dict[str, dict[str, Session]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, sandbox_id: str, spec: ExecSpec, plan: ExecPlan, *, waited_for: bool = True) -> Session:
        """`waited_for`: somebody waits for its end, so that the sandbox must not fall asleep before; a shell has none
        that anybody waits for. Raises Conflict when the sandbox does not run, LimitReached with too many sessions."""
        self._forget_old(sandbox_id)
        sessions = self._sessions.setdefault(sandbox_id, {})
        if len(sessions) >= self._sessions_max:
            raise LimitReached(f"this sandbox already has {self._sessions_max} exec sessions")
        session_id = make_id("exec", self._chance(6))
        process = await self._runtime.exec(sandbox_id, plan)
        record = ExecSession(
            id=session_id,
            sandbox=sandbox_id,
            command=list(spec.command),
            tty=spec.tty,
            detached=spec.detach,
            started_at=self._clock.now(),
        )
        transcript = Transcript(spec.output_bytes_max)
        if spec.detach:
            transcript.save_to(self._folder / sandbox_id / session_id, record, process.token())
        session = sessions[session_id] = Session(record, process, transcript)
        self._spawn(self._pump_awake(session, process) if waited_for else self._pump(session, process))
        if spec.stdin is not None:
            self._spawn(self._feed(process, spec.stdin.encode()))
        if spec.timeout_s is not None:
            self._spawn(self._expire(session, spec.timeout_s))
        return session

    async def adopt(self, sandbox_id: str) -> None:
        """Take over the detached sessions that went on without an agent, and those that have ended."""
        for folder in Transcript.saved(self._folder / sandbox_id):
            transcript, record, token = Transcript.load(folder)
            process = await self._runtime.adopt_exec(sandbox_id, token) if record.exit is None else None
            session = Session(record, process, transcript)
            self._sessions.setdefault(sandbox_id, {})[record.id] = session
            if process is not None:
                self._spawn(self._pump(session, process))
            elif record.exit is None:
                await self._end(session, ExecExit(code=None))  # nobody saw how
            else:
                await session.finish()

    def get(self, sandbox_id: str, session_id: str) -> Session:
        sessions = self._sessions.get(sandbox_id, {})
        found = [session for key, session in sessions.items() if key == session_id or key.startswith(session_id)]
        if len(found) != 1:
            raise NotFound(f"this sandbox has no exec session {session_id}")
        return found[0]

    def all(self, sandbox_id: str) -> list[ExecSession]:
        self._forget_old(sandbox_id)
        return [session.record for session in self._sessions.get(sandbox_id, {}).values()]

    async def kill(self, session: Session, number: int) -> None:
        if not session.ended.is_set():
            await session.process.kill(number)

    async def hang_up(self, session: Session) -> None:
        """Its client went away: SIGHUP, then SIGKILL, as a terminal that closes does."""
        await self.kill(session, signal.SIGHUP)
        try:
            await asyncio.wait_for(session.ended.wait(), HANGUP_GRACE_S)
        except TimeoutError:
            await self.kill(session, signal.SIGKILL)

    async def resize(self, session: Session, size: WindowSize) -> None:
        if not session.ended.is_set():
            await session.process.resize(size)

    def release(self, session: Session) -> None:
        """Its answer was given: a session that is not detached is not listed any more."""
        if not session.record.detached:
            self._sessions.get(session.record.sandbox, {}).pop(session.record.id, None)

    def cut_off(self, sandbox_id: str) -> None:
        """The sandbox is about to be stopped: whatever its commands say from now on, that is why they ended."""
        for session in self._sessions.get(sandbox_id, {}).values():
            session.cut_off = not session.ended.is_set()

    def forget(self, sandbox_id: str) -> None:
        """The sandbox was stopped or deleted: its sessions ended with it."""
        for session in self._sessions.pop(sandbox_id, {}).values():
            session.transcript.discard()
        folder = self._folder / sandbox_id
        if folder.exists():
            for saved in Transcript.saved(folder):
                Transcript.load(saved)[0].discard()
            folder.rmdir()

    async def _pump_awake(self, session: Session, process: Process) -> None:
        """Somebody waits for the end of a command of this kind, however quiet it is. A terminal at its prompt and a
        command that was left to itself keep nobody awake; what they print counts."""
        record = session.record
        if record.tty or record.detached:
            return await self._pump(session, process)
        with self._vigil.kept(record.sandbox, f"exec: {' '.join(record.command)[:COMMAND_SHOWN_MAX]}"):
            return await self._pump(session, process)

    async def _pump(self, session: Session, process: Process) -> None:
        what = "terminal" if session.record.tty else "exec"
        while (chunk := await process.read()) is not None:
            self._vigil.touch(session.record.sandbox, what)
            await session.hand_on(chunk)
        code = await process.wait()
        await process.close()
        if session.cut_off and code != 0:
            code = KILLED  # crun reports a command that it was just starting in its own way
        oom = (
            code == KILLED
            and not session.timed_out
            and not session.cut_off
            and await self._oom_rose(session.record.sandbox)
        )
        code = TIMED_OUT if session.timed_out else code
        await self._end(session, ExecExit(code=code, oom=oom, timed_out=session.timed_out))

    async def _end(self, session: Session, exit: ExecExit) -> None:
        session.record = session.record.model_copy(update={"exit": exit, "ended_at": self._clock.now()})
        session.transcript.ended(session.record)
        await session.finish()

    async def _feed(self, process: Process, data: bytes) -> None:
        try:
            await process.write(data)
        except (Conflict, ConnectionError):
            return  # the command does not read all of it; that is its business
        await process.close_stdin()

    async def _expire(self, session: Session, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(session.ended.wait(), timeout_s)
        except TimeoutError:
            session.timed_out = True
            await self.kill(session, signal.SIGKILL)

    def _forget_old(self, sandbox_id: str) -> None:
        now = self._clock.now()
        sessions = self._sessions.get(sandbox_id, {})
        for key, session in list(sessions.items()):
            ended_at = session.record.ended_at
            if ended_at is not None and (now - ended_at).total_seconds() > ENDED_KEPT_S:
                session.transcript.discard()
                del sessions[key]

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def text(session: Session, channel: int) -> str:
    return session.transcript.joined(channel).decode(errors="replace")


def was_truncated(session: Session) -> bool:
    return session.transcript.truncated
