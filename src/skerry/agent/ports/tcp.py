"""One published TCP port: take connections, hold each until the sandbox is there for it, pass its bytes."""

from __future__ import annotations

import socket

from skerry.agent.ports.callers import Callers
from skerry.agent.ports.counts import Counts
from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.relay import Relay
from skerry.errors import SkerryError

CONNECTIONS_MAX = 1024
"""Of one port, those that wait for the sandbox to wake included; further ones are closed at once."""


class TcpPort:
    def __init__(self, listening: socket.socket, *, dialer: Dialer, relay: Relay, sandbox_id: str, guest: int) -> None:
        """`listening` does not block, and is this one's from now on."""
        self._dialer = dialer
        self._relay = relay
        self._sandbox_id = sandbox_id
        self._guest = guest
        self._by = f"tcp {guest}"
        self._callers = Callers(listening, self._serve, most=CONNECTIONS_MAX)
        self.counts = Counts()

    @property
    def connections(self) -> int:
        return len(self._callers)

    def serve(self) -> None:
        """Until now whoever came waited in the kernel's queue."""
        self._callers.begin()

    def close(self) -> None:
        self._callers.close()

    async def _serve(self, caller: socket.socket) -> None:
        self.counts.connections_total += 1
        with caller:
            try:
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
