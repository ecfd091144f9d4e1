"""Connections to one target: the one used last is used next, and as many are opened as requests are under way."""

from __future__ import annotations

import asyncio
from time import monotonic

from skerry.bench.client.target import Target, message
from skerry.bench.client.wire import Over, Wire
from skerry.bench.contract import Request

CONNECT_S_MAX = 10.0


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
    def __init__(self, target: Target) -> None:
        self._target = target
        self._heads = target.heads()
        self._loop = asyncio.get_running_loop()
        self._idle: list[Wire] = []
        self._all: set[Wire] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def warm(self, count: int) -> None:
        """Open so many ahead. Raises OSError where the first cannot be."""
        for _ in range(count):
            self._idle.append(await self._open())

    def send(self, request: Request, over: Over) -> tuple[float, Wire | Opening]:
        """The moment at which it was sent and by what; of one for which a connection must be opened first it is the
        moment at which that began, and `over` is called with nothing if it fails."""
        data = message(self._heads[request.api], request)
        if self._idle:
            wire = self._idle.pop()
            return wire.send(data, over), wire
        opening = Opening(over)
        task = self._loop.create_task(self._send_anew(data, opening))
        opening.task = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return monotonic(), opening

    async def _send_anew(self, data: bytes, opening: Opening) -> None:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                opening.wire = await self._open()
        except (OSError, TimeoutError) as error:
            opening.over(None, f"cannot connect: {error or 'no answer'}")
            return
        opening.wire.send(data, opening.over)

    async def _open(self) -> Wire:
        target = self._target

        def make() -> Wire:
            return Wire(self._idle.append, self._gone)

        if target.socket is not None:
            _, wire = await self._loop.create_unix_connection(
                make, target.socket, ssl=target.tls, server_hostname=target.host if target.tls else None
            )
        else:
            _, wire = await self._loop.create_connection(
                make, target.address, target.port, ssl=target.tls, server_hostname=target.host if target.tls else None
            )
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
