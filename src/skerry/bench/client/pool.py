"""Connections to one target: the one used last is used next, and as many are opened as requests are under way.

An open loop has some ready beside those, so that a request rarely waits for its connection, which would be drift.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from skerry.bench.client.target import Target, message
from skerry.bench.client.wire import Over, Wire
from skerry.bench.contract import Request

CONNECT_S_MAX = 10.0
AT_ONCE = 64
"""Opened together: servers have a queue of new ones, and one after another takes a second for 20 across an ocean."""


class Opening:
    """A request whose connection is opened, or has been for it."""

    def __init__(self, over: Over) -> None:
        self.over = over
        self.task: asyncio.Task[None] | None = None
        self.wire: Wire | None = None

    def abort(self, why: str) -> None:
        if self.wire is not None:
            self.wire.abort(why)
        elif self.task is not None:
            self.task.cancel()
            self.over(None, why)


class Pool:
    def __init__(self, target: Target, spare: int = 0) -> None:
        """`spare`: so many are kept ready."""
        self._target = target
        self._spare = spare
        self._heads = target.heads()
        self._loop = asyncio.get_running_loop()
        self._idle: list[Wire] = []
        self._all: set[Wire] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._ahead = 0
        """Under way to be spare ones."""

    async def warm(self, count: int) -> None:
        """Open so many ahead. Raises OSError where one cannot be."""
        self._idle.append(await self._open())  # alone, so that one that nobody answers is told of at once
        for since in range(1, max(count, self._spare), AT_ONCE):
            several = range(since, min(since + AT_ONCE, max(count, self._spare)))
            self._idle += await asyncio.gather(*(self._open() for _ in several))

    def send(self, request: Request, over: Over) -> tuple[float, Wire | Opening]:
        """The moment at which it was sent and by what; of one for which a connection must be opened first it is the
        moment at which that began, and `over` is called with nothing if it fails."""
        data = message(self._heads[request.api], request)
        if self._idle:
            wire = self._idle.pop()
            if len(self._idle) + self._ahead < self._spare:
                self._ahead += 1
                self._begin(self._open_spare())
            return wire.send(data, over), wire
        opening = Opening(over)
        opening.task = self._begin(self._send_anew(data, opening))
        return monotonic(), opening

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _open_spare(self) -> None:
        try:
            self._idle.insert(0, await self._open())
        except OSError:
            pass  # the request that would have had it finds out
        finally:
            self._ahead -= 1

    async def _send_anew(self, data: bytes, opening: Opening) -> None:
        try:
            opening.wire = await self._open()
        except OSError as error:
            opening.over(None, f"cannot connect: {error}")
            return
        opening.wire.send(data, opening.over)

    async def _open(self) -> Wire:
        """Raises OSError."""
        target = self._target
        name = target.host if target.tls else None

        def make() -> Wire:
            return Wire(self._idle.append, self._gone)

        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                if target.socket is not None:
                    connecting = self._loop.create_unix_connection(
                        make, target.socket, ssl=target.tls, server_hostname=name
                    )
                else:
                    connecting = self._loop.create_connection(
                        make, target.address, target.port, ssl=target.tls, server_hostname=name
                    )
                _, wire = await connecting
        except TimeoutError:
            raise TimeoutError(f"no answer in {CONNECT_S_MAX:g} s") from None
        self._all.add(wire)
        return wire

    def _gone(self, wire: Wire) -> None:
        self._all.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        """Whatever is under way ends without an answer."""
        for task in self._opening:
            task.cancel()
        for wire in list(self._all):
            wire.abort("the run ended")
