"""Carry bytes between two streams, asyncio's or asyncssh's, until both sides have said all they had to say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

CHUNK_BYTES = 64 * 1024


class Source(Protocol):
    async def read(self, n: int = -1, /) -> bytes: ...


class Sink(Protocol):
    def write(self, data: bytes, /) -> None: ...
    def write_eof(self) -> None: ...
    async def drain(self) -> None: ...


async def pump_both(
    one_source: Source, one_sink: Sink, other_source: Source, other_sink: Sink, moved: Callable[[], Awaitable[None]]
) -> None:
    """`moved` is called for every chunk. An end of one side is passed on: the other may go on talking. Raises OSError
    when a side breaks off."""
    there = asyncio.ensure_future(_pump(one_source, other_sink, moved))
    back = asyncio.ensure_future(_pump(other_source, one_sink, moved))
    try:
        await asyncio.gather(there, back)
    finally:
        there.cancel()
        back.cancel()
        await asyncio.gather(there, back, return_exceptions=True)


async def _pump(source: Source, sink: Sink, moved: Callable[[], Awaitable[None]]) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        await moved()
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()
