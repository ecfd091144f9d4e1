"""Pass bytes both ways between two sockets until both sides have said all they had to say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

CHUNK_BYTES = 256 * 1024


async def relay(
    one: socket.socket,
    other: socket.socket,
    moved: Callable[[], None],
    *,
    before: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """`moved` is called for every chunk, and `before` is waited for before one of `one` is passed on. An end of a side
    is passed on as such: the other may go on talking. Raises OSError when a side breaks off; both sockets stay the
    caller's to close."""
    there = asyncio.ensure_future(_pump(one, other, moved, before))
    back = asyncio.ensure_future(_pump(other, one, moved, None))
    try:
        await asyncio.gather(there, back)
    finally:
        there.cancel()
        back.cancel()
        await asyncio.gather(there, back, return_exceptions=True)


async def _pump(
    source: socket.socket,
    target: socket.socket,
    moved: Callable[[], None],
    before: Callable[[], Awaitable[None]] | None,
) -> None:
    loop = asyncio.get_running_loop()
    # Not into a buffer of its own: most connections are idle most of the time, and each would hold one.
    while chunk := await loop.sock_recv(source, CHUNK_BYTES):
        moved()
        if before is not None:
            await before()
        await loop.sock_sendall(target, chunk)
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:  # it has gone meanwhile
        return
