"""Start host programs without forking the agent, and learn of their end from the event loop alone.

posix_spawn shares the agent's memory until the exec, so its cost does not grow with the agent; a pidfd becomes
readable when its process ends, so no thread and no signal handler is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.runtime.container.syscalls import pidfd_exit_code

STRANGER_WAIT_S = 2.0
"""How long a process that is not our child may take to be reaped, after which nobody knows its code."""
STRANGER_POLL_S = 0.01

# Python ignores SIGPIPE and whoever started us may have ignored more; ignored signals would be inherited.
_DEFAULT_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Child:
    """A process and how it ended. Also for one that is not our child: then its code comes from the kernel (Linux
    6.15), else from the file that the supervisor writes when it reaps it, else it is None."""

    def __init__(self, pid: int, pidfd: int, exits_path: Path | None = None) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._exits_path = exits_path
        self._end: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asking: asyncio.Task[None] | None = None
        if pidfd >= 0:
            asyncio.get_running_loop().add_reader(pidfd, self._on_end)

    @staticmethod
    def spawn(arguments: Sequence[str], *, env: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> Child:
        """Start a program in a session of its own, so that its session id is its pid, with these three descriptors
        and no others (all of ours are close-on-exec)."""
        moves = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, stdout, stderr))]
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            env,
            file_actions=moves,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
        return Child(pid, os.pidfd_open(pid))

    @staticmethod
    def adopt(pid: int, exits_path: Path, ticks: str | None = None) -> Child | None:
        """A process that an earlier agent started; None when it has gone. One that is told from others with its number
        by when it began (`ticks`) may have ended meanwhile, if the supervisor wrote down how."""
        with contextlib.suppress(ProcessLookupError):
            if ticks is None or str(start_ticks(pid)) == ticks:
                return Child(pid, os.pidfd_open(pid), exits_path)
        written = _written(exits_path, pid)
        if ticks is None or written is None or written[0] != ticks:
            return None
        child = Child(pid, -1)
        child._finish(written[1])
        return child

    async def wait(self) -> int | None:
        """0..255, or 128 + n for signal n; None when nobody saw how it ended."""
        return await asyncio.shield(self._end)

    @property
    def ended(self) -> bool:
        return self._end.done()

    def signal(self, number: int) -> None:
        """By pidfd: never to another process that got the same number later."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Look no further; the process goes on. Whoever still waits for it is told None."""
        if self._asking is not None:
            self._asking.cancel()
        self._finish(None)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._asking = asyncio.get_running_loop().create_task(self._ask_others())
            return
        if found is None:
            self._finish(None)
        else:
            killed = found.si_code != os.CLD_EXITED
            self._finish(128 + found.si_status if killed else found.si_status)

    async def _ask_others(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + STRANGER_WAIT_S
        while True:
            code = pidfd_exit_code(self._pidfd)
            if code is None:
                code = self._written_code()
            if code is not None or asyncio.get_running_loop().time() > deadline_s:
                self._finish(code)
                return
            await asyncio.sleep(STRANGER_POLL_S)

    def _written_code(self) -> int | None:
        written = _written(self._exits_path, self.pid) if self._exits_path is not None else None
        return written[1] if written is not None else None

    def _finish(self, code: int | None) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if not self._end.done():
            self._end.set_result(code)


def _written(exits_path: Path, pid: int) -> tuple[str, int] | None:
    """When the process began and its code, as the supervisor wrote them."""
    try:
        ticks, status = (exits_path / str(pid)).read_text().split()
        code = os.waitstatus_to_exitcode(int(status))
    except (OSError, ValueError):
        return None
    return ticks, code if code >= 0 else 128 - code


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with its pid it names the process for good. proc(5) stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])
