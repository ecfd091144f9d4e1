"""Pass bytes both ways between two sockets until both sides have said all they had to say.

Written for the machine, since all traffic of published ports passes here: readiness callbacks that read into one
buffer and send at once. Measured on 2 cores by `benchmarks/proxy.py`; the decision record on ports has the figures of
the ways not taken.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

CHUNK_BYTES = 256 * 1024
"""Read at one time; then it is another connection's turn."""

Moved = Callable[[int, bool], None]
"""(bytes, whether from the first socket to the second), called for every chunk."""


class Relay:
    """One for many connections: a chunk leaves the buffer before the next is read, and what cannot be sent at once is
    kept apart. Most connections are idle most of the time, and hold no memory then."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    async def run(self, one: socket.socket, other: socket.socket, moved: Moved) -> None:
        """An end of one side is passed on as such: the other may go on talking. Raises OSError when a side breaks off;
        both sockets, which do not block, stay the caller's to close."""
        there = _Way(one, other, self._buffer, lambda count: moved(count, True))
        back = _Way(other, one, self._buffer, lambda count: moved(count, False))
        try:
            await asyncio.gather(there.ended, back.ended)
        finally:
            there.stop()
            back.stop()


class _Way:
    def __init__(
        self, source: socket.socket, target: socket.socket, buffer: memoryview, moved: Callable[[int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._target = target
        self._buffer = buffer
        self._moved = moved
        self._rest = memoryview(b"")
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(source, self._read)

    def stop(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        self.ended.cancel()

    def _read(self) -> None:
        try:
            count = self._source.recv_into(self._buffer)
            if not count:
                self._end()
                return
            self._moved(count)
            sent = self._send(self._buffer[:count])
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if sent < count:  # the target takes no more now, so nothing more is read until it does
            self._rest = memoryview(bytes(self._buffer[sent:count]))
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._target, self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[self._send(self._rest) :]
        except OSError as error:
            self._break(error)
            return
        if not self._rest:
            self._loop.remove_writer(self._target)
            self._loop.add_reader(self._source, self._read)

    def _send(self, chunk: memoryview) -> int:
        try:
            return self._target.send(chunk)
        except BlockingIOError:
            return 0

    def _end(self) -> None:
        self._loop.remove_reader(self._source)
        try:
            self._target.shutdown(socket.SHUT_WR)
        except OSError:  # it has gone meanwhile
            pass
        if not self.ended.done():
            self.ended.set_result(None)

    def _break(self, error: OSError) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        if not self.ended.done():
            self.ended.set_exception(error)
