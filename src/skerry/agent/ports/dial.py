"""Connect to a port in a sandbox: wake it, then try until somebody listens, so that no caller has to try again."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from typing import Protocol

from skerry.agent.namespaces import inside
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.slots import SlotPool
from skerry.errors import Conflict, Unavailable

LISTEN_WAIT_S = 20.0
"""How long a sandbox that has just been woken, or started, may take until its program listens."""
LISTEN_POLL_S = 0.01
CONNECT_S_MAX = 5.0
AWAKE_WAIT_S = 0.0
"""One that was awake all the while either listens or does not: its caller is told at once, as on any machine."""
LOOPBACK = "127.0.0.1"
_NOBODY = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED})


class Readiness(Protocol):
    """Who starts what listens, as the dialer sees it."""

    async def ready(self, sandbox_id: str, port: int) -> bool:
        """Whether somebody will listen on the port of this sandbox who may not yet."""
        ...


class Dialer:
    def __init__(self, *, sandboxes: Sandboxes, sleeper: Sleeper, slots: SlotPool, services: Readiness) -> None:
        self._services = services
        self._sandboxes = sandboxes
        self._sleeper = sleeper
        self._slots = slots

    async def connect(self, sandbox_id: str, port: int, by: str) -> socket.socket:
        """A connected, non-blocking TCP socket, made inside the sandbox's network; the caller closes it. `by` says what
        for, such as `http 8080`. Raises Conflict when the sandbox does not run, Unavailable when nobody listens."""
        slept = self._sandboxes.sleeps(sandbox_id)
        async with self._sleeper.awake(sandbox_id, by):
            if not self._sandboxes.runs(sandbox_id):
                raise Conflict("the sandbox does not run; start it first")
            starts = await self._services.ready(sandbox_id, port)
            address = self._sandboxes.entry(sandbox_id).address
            network = self._slots.network_of(sandbox_id)
            return await self._until_listening(
                network, address, port, LISTEN_WAIT_S if slept or starts else AWAKE_WAIT_S
            )

    async def _until_listening(self, network: Path, address: str | None, port: int, wait_s: float) -> socket.socket:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while True:
            # Its address first: a program that trusts its own machine must not take us for it. Many development
            # servers listen on loopback alone, so that comes next.
            for host in (*([address] if address else []), LOOPBACK):
                connected = await _connect(network, host, port)
                if connected is not None:
                    return connected
            if loop.time() >= deadline_s:
                raise Unavailable(f"nobody listens on port {port} in the sandbox", retry_after_s=1)
            await asyncio.sleep(LISTEN_POLL_S)


async def _connect(network: Path, host: str, port: int) -> socket.socket | None:
    """None when nobody listens there."""
    made: list[socket.socket] = []
    await asyncio.to_thread(inside, network, lambda: made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
    [fresh] = made
    try:
        fresh.setblocking(False)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_S_MAX):
            await asyncio.get_running_loop().sock_connect(fresh, (host, port))
    except OSError as error:  # TimeoutError is one
        fresh.close()
        if isinstance(error, TimeoutError) or error.errno in _NOBODY:
            return None
        raise Unavailable(f"port {port} in the sandbox cannot be reached", because=str(error)) from None
    except BaseException:
        fresh.close()
        raise
    return fresh
