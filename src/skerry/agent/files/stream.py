"""Pipes between the event loop and a worker thread: the kernel gives the back-pressure, and closing one end tells the
other; nothing is queued in memory."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator

from skerry.agent.files.openat2 import Fd

PIPE_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024


def make_pipe() -> tuple[Fd, Fd]:
    """(read end, write end), both blocking, as large as the kernel's default limit lets us."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # the 64 KiB it has will do
    return Fd(read), Fd(write)


async def ready(fd: int, *, write: bool = False) -> None:
    """When a descriptor can be read or written without waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    (loop.add_writer if write else loop.add_reader)(fd, wake)
    try:
        await future
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)


async def read_some(fd: int, bytes_max: int = CHUNK_BYTES) -> bytes:
    """The next bytes of a pipe; empty at its end. The descriptor must be non-blocking."""
    while True:
        try:
            return os.read(fd, bytes_max)
        except BlockingIOError:
            await ready(fd)


async def feed(fd: int, chunks: AsyncIterator[bytes]) -> None:
    """Write all chunks to a pipe; raises BrokenPipeError when the reader has gone."""
    os.set_blocking(fd, False)
    async for chunk in chunks:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                await ready(fd, write=True)
