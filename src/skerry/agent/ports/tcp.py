"""One published TCP port: take connections, hold each until the sandbox is there for it, pass its bytes."""

from __future__ import annotations

import asyncio
import socket

from skerry.agent.ports.counts import Counts
from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.relay import Relay
from skerry.errors import SkerryError

CONNECTIONS_MAX = 1024
"""Of one port, those that wait for the sandbox to wake included; further ones are closed at once."""
FULL_S = 0.5
"""Pause when the program has no file descriptors left: accepting again at once would only burn the processor."""


class TcpPort:
    def __init__(self, listening: socket.socket, *, dialer: Dialer, relay: Relay, sandbox_id: str, guest: int) -> None:
        """`listening` does not block, and is this one's from now on."""
        self._listening = listening
        self._dialer = dialer
        self._relay = relay
        self._sandbox_id = sandbox_id
        self._guest = guest
        self._by = f"tcp {guest}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self.counts = Counts()

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def serve(self) -> None:
        """Until now whoever came waited in the kernel's queue."""
        if self._accepting is None:
            self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        for task in self._tasks:
            task.cancel()
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                caller, _ = await loop.sock_accept(self._listening)
            except ConnectionError:
                continue
            except OSError:
                await asyncio.sleep(FULL_S)
                continue
            if len(self._tasks) >= CONNECTIONS_MAX:
                caller.close()
                continue
            self.counts.connections_total += 1
            task = loop.create_task(self._serve(caller))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, caller: socket.socket) -> None:
        with caller:
            try:
                caller.setblocking(False)
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # one whose machine died goes, too
                inside = await self._dialer.connect(self._sandbox_id, self._guest, self._by)
            except (SkerryError, OSError):
                return  # closed: raw TCP has no words for why; `skerry port list` and `inspect` do
            with inside:
                try:
                    await self._relay.run(caller, inside, self._moved)
                except OSError:
                    return

    def _moved(self, count: int, inward: bool) -> None:
        self.counts.moved(count, inward=inward)
        self._dialer.moved(self._sandbox_id, self._by, inward=inward)
