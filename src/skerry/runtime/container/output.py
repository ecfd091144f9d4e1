"""Read what a sandbox writes to a FIFO, without ever waiting for it and without letting it fill our memory.

The guest holds its FIFOs open for reading and writing: it needs no reader to live, gets no SIGPIPE when the agent
dies, and waits when the pipe is full instead of losing output. A new agent opens the FIFO by name and reads on.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

FIFO_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
SPELL_S = 0.05
SPELL_BYTES_MAX = 2 * 1024 * 1024
"""Read of one FIFO in one spell, so that a guest that only prints costs the agent little: 40 MiB/s."""


def make_fifo(path: Path, uid: int, gid: int) -> int:
    """A new FIFO that the guest's user may open again through /proc/self/fd; the descriptor to give it."""
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchown(fd, uid, gid)
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, FIFO_BYTES)
        except PermissionError:  # over pipe-user-pages-soft; the default size works as well, only slower
            pass
    except OSError:
        os.close(fd)
        raise
    return fd


class OutputReader:
    """Hands each chunk to `on_bytes`. While paused it reads nothing, and the guest feels it."""

    def __init__(self, fd: int, on_bytes: Callable[[bytes], None]) -> None:
        """Takes over `fd`, which must be non-blocking."""
        self._fd = fd
        self._on_bytes = on_bytes
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._resting: asyncio.TimerHandle | None = None
        self._spell_began_s = 0.0
        self._spell_bytes = 0
        self._loop.add_reader(fd, self._on_readable)

    @staticmethod
    def open(path: Path, on_bytes: Callable[[bytes], None]) -> OutputReader | None:
        """None when there is no such FIFO (any more)."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        return OutputReader(fd, on_bytes)

    @property
    def at_end(self) -> bool:
        """Nobody has the other end open any more."""
        return self._fd < 0

    def pause(self) -> None:
        if not self._paused and self._fd >= 0:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if self._paused and self._fd >= 0:
            self._paused = False
            if self._resting is None:
                self._loop.add_reader(self._fd, self._on_readable)

    def drain(self) -> None:
        """Read what is there now, at most what the FIFO holds; for when its writer has ended."""
        left = FIFO_BYTES
        while left > 0 and (chunk := self._read()):
            left -= len(chunk)
            self._on_bytes(chunk)

    def divert(self, on_bytes: Callable[[bytes], None]) -> None:
        """Whatever comes from now on goes there."""
        self._on_bytes = on_bytes

    def close(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        """b"" when there is nothing now; closes itself at the end of the file."""
        if self._fd < 0:
            return b""
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other side is closed
                raise
            chunk = b""
        if not chunk:
            self.close()
        return chunk

    def _on_readable(self) -> None:
        chunk = self._read()
        if not chunk:
            return
        now_s = self._loop.time()
        if now_s - self._spell_began_s > SPELL_S:
            self._spell_began_s, self._spell_bytes = now_s, 0
        self._spell_bytes += len(chunk)
        if self._spell_bytes >= SPELL_BYTES_MAX:
            self._loop.remove_reader(self._fd)
            self._resting = self._loop.call_at(self._spell_began_s + SPELL_S, self._rested)
        self._on_bytes(chunk)

    def _rested(self) -> None:
        self._resting = None
        if not self._paused and self._fd >= 0:
            self._loop.add_reader(self._fd, self._on_readable)
