"""Run another program so that nothing of it outlives us: its group is killed on cancel, and by the kernel if we die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STDERR_BYTES_MAX = 64 * 1024
"""Kept from the end: tools say last why they gave up."""
STDOUT_BYTES_MAX = 8 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024

# The kernel sends the signal when the thread that forked ends, which for us is the event loop's: the whole process.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: bytes
    stderr: str


class OutputTooLong(Exception):
    """The program printed more than its caller can use."""


class Running:
    """A program that runs now; read its output, then wait for its end."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self._process = process
        self._stderr = bytearray()
        self._on_line = on_line
        self._drain = asyncio.create_task(self._read_stderr())

    @property
    def pid(self) -> int:
        return self._process.pid

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its standard output until the end."""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(CHUNK_BYTES):
            yield chunk

    async def write(self, data: bytes) -> None:
        """To its standard input, as fast as it reads. A program that has ended says why by its exit code."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()

    async def wait(self) -> tuple[int, str]:
        """(exit code, -n for signal n; the tail of what it wrote to stderr)."""
        await self._drain
        code = await self._process.wait()
        return code, self._stderr.decode(errors="replace")

    async def end(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._drain.cancel()
        await asyncio.wait({self._drain})

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        line = b""
        while chunk := await self._process.stderr.read(CHUNK_BYTES):
            self._stderr += chunk
            del self._stderr[:-STDERR_BYTES_MAX]
            if self._on_line is not None:
                *whole, line = (line + chunk).split(b"\n")
                line = line[-STDERR_BYTES_MAX:]
                for one in whole:
                    self._on_line(one.decode(errors="replace"))


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """For cleaning up: a cancellation that comes meanwhile waits until it is done."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    stdin: bool = False,
) -> AsyncGenerator[Running, None]:
    """Start `command` in its own process group; leaving the block kills what is left of it."""
    process = await asyncio.create_subprocess_exec(
        *DIES_WITH_US,
        *command,
        env=dict(environment),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=CHUNK_BYTES,
    )
    handle = Running(process, on_line)
    try:
        yield handle
    finally:
        await to_the_end(handle.end())


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stdout_bytes_max: int = STDOUT_BYTES_MAX,
    on_start: Callable[[int], None] | None = None,
) -> Ran:
    """Run to the end and keep its output; raises OutputTooLong, never for an exit code."""
    async with running(command, environment=environment, folder=folder) as program:
        if on_start is not None:
            on_start(program.pid)
        stdout = bytearray()
        async for chunk in program.chunks():
            stdout += chunk
            if len(stdout) > stdout_bytes_max:
                raise OutputTooLong(f"{command[0]} printed more than {stdout_bytes_max} bytes")
        code, stderr = await program.wait()
    return Ran(code, bytes(stdout), stderr)
