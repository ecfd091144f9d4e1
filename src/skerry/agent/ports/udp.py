"""One published UDP port: each client has a socket of its own into the sandbox, until it has been silent for long."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from skerry.agent.ports.counts import Counts
from skerry.agent.ports.dial import Dialer
from skerry.errors import SkerryError
from skerry.model.port import Protocol

DATAGRAM_BYTES_MAX = 65_535
CLIENTS_MAX = 1024
"""Of one port; further ones are not heard until others have been silent for long enough."""
SILENCE_S_MAX = 60.0
HELD_MAX = 64
"""Datagrams of one client kept while its sandbox wakes; what comes beyond is lost, as on any network."""
BURST_MAX = 64
"""Read from one socket before it is another's turn."""
SWEEP_EVERY_S = 1.0
REFUSED_S = 1.0
"""After nobody listened a client is not heard for this long: not every datagram of it may cost us a search."""

Address = tuple[Any, ...]


class UdpPort:
    def __init__(self, bound: socket.socket, *, dialer: Dialer, sandbox_id: str, guest: int) -> None:
        """`bound` does not block, and is this one's from now on."""
        self._bound = bound
        self._dialer = dialer
        self._sandbox_id = sandbox_id
        self._guest = guest
        self._by = f"udp {guest}"
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Address, _Client] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._serving = False
        self.counts = Counts()

    @property
    def connections(self) -> int:
        return len(self._clients)

    def serve(self) -> None:
        if not self._serving:
            self._serving = True
            self._loop.add_reader(self._bound, self._heard)
            self._sweep()

    def close(self) -> None:
        if self._serving:
            self._loop.remove_reader(self._bound)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._bound.close()

    def _heard(self) -> None:
        for _ in range(BURST_MAX):
            try:
                datagram, address = self._bound.recvfrom(DATAGRAM_BYTES_MAX)
            except OSError:
                return
            client = self._clients.get(address)
            if client is None:
                if len(self._clients) >= CLIENTS_MAX:
                    continue
                client = self._clients[address] = _Client(self._loop, self._dial, partial(self._back, address))
                self.counts.connections_total += 1
            elif self._dialer.is_cold(self._sandbox_id):
                client.begin_again()
            self._moved(len(datagram), inward=True)
            client.send(datagram)

    async def _dial(self) -> socket.socket:
        return await self._dialer.connect(self._sandbox_id, self._guest, self._by, Protocol.UDP)

    def _back(self, address: Address, datagram: bytes) -> None:
        try:
            self._bound.sendto(datagram, address)
        except OSError:  # the client has gone, or cannot take more: a lost datagram
            return
        self._moved(len(datagram), inward=False)

    def _moved(self, count: int, *, inward: bool) -> None:
        self.counts.moved(count, inward=inward)
        self._dialer.moved(self._sandbox_id, self._by, inward=inward)

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for address in [address for address, client in self._clients.items() if client.is_over(now_s)]:
            self._clients.pop(address).close()
        self._sweeping = self._loop.call_later(SWEEP_EVERY_S, self._sweep)


class _Client:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Callable[[], Awaitable[socket.socket]],
        back: Callable[[bytes], None],
    ) -> None:
        self._loop = loop
        self._dial = dial
        self._back = back
        self._inside: socket.socket | None = None
        self._held: deque[bytes] = deque(maxlen=HELD_MAX)
        self._over_s = loop.time() + SILENCE_S_MAX
        self._refused = False
        self._dialing = loop.create_task(self._connect())

    def begin_again(self) -> None:
        """What it talked to is gone, and comes back."""
        if self._dialing.done():
            self._let_go()
            self._refused = False
            self._dialing = self._loop.create_task(self._connect())

    def is_over(self, now_s: float) -> bool:
        return now_s >= self._over_s

    def send(self, datagram: bytes) -> None:
        if self._refused:
            return
        self._over_s = self._loop.time() + SILENCE_S_MAX
        if self._inside is None:
            self._held.append(datagram)
            return
        try:
            self._inside.send(datagram)
        except BlockingIOError:
            return
        except OSError:
            self._give_up()

    async def _connect(self) -> None:
        try:
            self._inside = await self._dial()
        except (SkerryError, OSError):
            self._give_up()
            return
        self._loop.add_reader(self._inside, self._answered)
        while self._held and not self._refused:
            self.send(self._held.popleft())

    def _answered(self) -> None:
        for _ in range(BURST_MAX):
            try:
                assert self._inside is not None
                datagram = self._inside.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there any more
                self._give_up()
                return
            self._over_s = self._loop.time() + SILENCE_S_MAX
            self._back(datagram)

    def _give_up(self) -> None:
        self._refused = True
        self._held.clear()
        self._over_s = self._loop.time() + REFUSED_S
        self._let_go()

    def _let_go(self) -> None:
        inside, self._inside = self._inside, None
        if inside is not None:
            self._loop.remove_reader(inside)
            inside.close()

    def close(self) -> None:
        self._dialing.cancel()
        self._let_go()
