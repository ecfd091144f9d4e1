"""One command in a running sandbox: its pipes or terminal, its end, and the signals to its session."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Conflict
from skerry.model.exec import STDERR, STDOUT, WindowSize
from skerry.runtime.container.crun import complaint, exit_code_of
from skerry.runtime.container.output import CHUNK_BYTES, OutputReader
from skerry.runtime.container.spawn import Child, start_ticks

UNREAD_BYTES_MAX = 1024 * 1024
"""Of one command; then its pipes are left to fill, and the command waits."""
KILL_ROUNDS_MAX = 20
CRUN_FAILED = (1, 126, 127, 255)
"""Codes of `crun exec` that may be its own; its log tells."""
END_OF_FILE_KEY = b"\x04"


@dataclass(frozen=True)
class ExecFiles:
    """The files of one exec; all of a sandbox's lie in one folder and go with it."""

    folder: Path
    name: str

    @property
    def process(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def pid(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def console(self) -> Path:
        return self.folder / f"{self.name}.tty"

    @property
    def stdout(self) -> Path:
        return self.folder / f"{self.name}.out"

    @property
    def stderr(self) -> Path:
        return self.folder / f"{self.name}.err"

    def pipes(self) -> tuple[Path, Path]:
        return self.stdout, self.stderr

    def remove(self, *, pipes: bool) -> None:
        for path in (self.process, self.pid, self.log, self.console, *(self.pipes() if pipes else ())):
            path.unlink(missing_ok=True)

    def find_pid(self) -> int | None:
        """Of the crun that runs this exec, if it was started: nobody may have written its pid down. Only a process of
        the host's root counts, for a guest can call its own whatever it likes."""
        if not self.process.exists():
            return None
        argument = os.fsencode(f"--process={self.process}")
        found: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if folder.stat().st_uid == 0 and argument in (folder / "cmdline").read_bytes().split(b"\0"):
                    found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
        # What crun has just forked looks like crun, until it is the command.
        return next((pid for pid, parent in found.items() if parent not in found), None)

    def leave_stray(self, path: Path) -> Path:
        """A pipe that something in the background still holds, named so that a later agent drains it."""
        stray = path.with_name(f"{path.name}.stray")
        with contextlib.suppress(FileNotFoundError):
            path.rename(stray)
        return stray

    @staticmethod
    def strays(folder: Path) -> list[Path]:
        return sorted(folder.glob("*.stray"))


class ExecProcess:
    """`contract.Process` over `crun exec`, whose end and exit code are the command's."""

    def __init__(
        self,
        *,
        child: Child,
        files: ExecFiles,
        members: Callable[[], Iterable[int]],
        leave: Callable[[OutputReader, Path], None],
        stdin_fd: int | None,
        terminal_fd: int | None,
    ) -> None:
        """`members` gives the host pids in the sandbox; `leave` takes over a pipe that outlives the command."""
        self.pid = child.pid
        self._child = child
        self._files = files
        self._members = members
        self._leave = leave
        self._stdin_fd = stdin_fd
        self._terminal_fd = terminal_fd
        self._unread: deque[tuple[int, bytes]] = deque()
        self._unread_bytes = 0
        self._news = asyncio.Event()
        self._end: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._readers: list[OutputReader] = []
        if terminal_fd is not None:
            reader = OutputReader(os.dup(terminal_fd), lambda chunk: self._on_output(STDOUT, chunk))
            self._readers.append(reader)
        else:
            self._open_pipe(files.stdout, STDOUT)
            self._open_pipe(files.stderr, STDERR)
        self._watch = asyncio.get_running_loop().create_task(self._until_ended())

    def token(self) -> dict[str, str]:
        kind = "tty" if self._terminal_fd is not None else "pipes"
        # Read only when asked for: /proc/PID/stat of a process in the middle of its exec makes us wait for that.
        return {"name": self._files.name, "pid": str(self.pid), "ticks": str(start_ticks(self.pid)), "kind": kind}

    # Output

    def _open_pipe(self, path: Path, channel: int) -> None:
        reader = OutputReader.open(path, lambda chunk: self._on_output(channel, chunk))
        if reader is not None:
            self._readers.append(reader)

    def _on_output(self, channel: int, chunk: bytes) -> None:
        self._unread.append((channel, chunk))
        self._unread_bytes += len(chunk)
        self._news.set()
        if self._unread_bytes >= UNREAD_BYTES_MAX:
            for reader in self._readers:
                reader.pause()

    async def read(self) -> tuple[int, bytes] | None:
        while not self._unread:
            if self._end.done():
                return None
            self._news.clear()
            await self._news.wait()
        channel, chunk = self._unread.popleft()
        self._unread_bytes -= len(chunk)
        if self._unread_bytes < UNREAD_BYTES_MAX // 2:
            for reader in self._readers:
                reader.resume()
        return channel, chunk

    async def _until_ended(self) -> None:
        code = await self._child.wait()
        if code in CRUN_FAILED and (words := complaint(self._files.log)) is not None:
            code = exit_code_of(words) or code
        for reader in self._readers:
            reader.drain()
        self._release_readers()
        self._end.set_result(code)
        self._news.set()

    def _release_readers(self) -> None:
        if self._terminal_fd is not None:
            for reader in self._readers:
                reader.close()
        else:
            for reader, path in zip(self._readers, self._files.pipes(), strict=False):
                if not reader.at_end:
                    self._leave(reader, self._files.leave_stray(path))
        self._readers.clear()

    # Input

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            fd = self._terminal_fd if self._terminal_fd is not None else self._stdin_fd
            if fd is None or self._end.done():
                raise Conflict("the command's stdin is closed")
            try:
                view = view[os.write(fd, view[:CHUNK_BYTES]) :]
            except BlockingIOError:
                await self._until_writable(fd)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                self._close_stdin_fd()
                raise Conflict("the command's stdin is closed") from None

    async def _until_writable(self, fd: int) -> None:
        """Or until the command has ended: then nobody will ever read it."""
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(fd, lambda: None if writable.done() else writable.set_result(None))
        try:
            await asyncio.wait({writable, self._watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_writer(fd)

    async def close_stdin(self) -> None:
        if self._terminal_fd is not None and not self._end.done():
            with contextlib.suppress(Conflict):
                await self.write(END_OF_FILE_KEY)
        self._close_stdin_fd()

    def _close_stdin_fd(self) -> None:
        if self._stdin_fd is not None:
            os.close(self._stdin_fd)
            self._stdin_fd = None

    async def resize(self, size: WindowSize) -> None:
        if self._terminal_fd is not None:
            set_window(self._terminal_fd, size)

    # End

    async def kill(self, signal: int) -> None:
        await asyncio.to_thread(self._kill, signal)

    def _kill(self, number: int) -> None:
        """SIGKILL goes on until nobody new is found: a process may fork between the look and the signal."""
        rounds = KILL_ROUNDS_MAX if number == signal.SIGKILL else 1
        for turn in range(rounds):
            found = family(self._members(), self._leaders())
            if turn == 0 and not found and not self._child.ended:
                self._child.signal(number)  # still on its way in
            if not found:
                return
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _leaders(self) -> set[int]:
        """Session ids of the command: crun's own, which it inherits, or that of the terminal's first process."""
        try:
            return {self.pid, int(self._files.pid.read_text())}
        except (FileNotFoundError, ValueError):
            return {self.pid}

    async def wait(self) -> int | None:
        return await asyncio.shield(self._end)

    async def close(self) -> None:
        self._watch.cancel()
        if not self._end.done():
            self._end.set_result(None)
            self._news.set()
        for reader in self._readers:
            reader.close()
        self._close_stdin_fd()
        if self._terminal_fd is not None:
            os.close(self._terminal_fd)
            self._terminal_fd = None
        if self._child.ended:
            self._files.remove(pipes=True)
        self._child.close()


def family(pids: Iterable[int], leaders: set[int]) -> list[int]:
    """Those of `pids` that are in the leaders' sessions, and all below them; parents come before their children, so
    that a shell which is killed does not see its child die first and go on."""
    parents: dict[int, int] = {}
    found: list[int] = []
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[pid] = int(words[1])
        if int(words[3]) in leaders or pid in leaders:
            found.append(pid)
    while below := [pid for pid, parent in parents.items() if parent in found and pid not in found]:
        found += below
    return sorted(found, key=lambda pid: _depth(pid, parents))


def _depth(pid: int, parents: dict[int, int]) -> int:
    depth = 0
    while (parent := parents.get(pid)) is not None and depth < len(parents):
        pid, depth = parent, depth + 1
    return depth


def set_window(terminal_fd: int, size: WindowSize) -> None:
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
