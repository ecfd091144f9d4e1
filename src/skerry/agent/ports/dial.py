"""Connect to a port in a sandbox: wake it, then try until somebody listens, so that no caller has to try again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path

from skerry.agent.namespaces import inside, socket_inside
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.slots import SlotPool
from skerry.errors import Conflict, Unavailable

LISTEN_WAIT_S = 20.0
"""How long a sandbox that has just been woken, or started, may take until its program listens."""
LISTEN_POLL_S = 0.005
CONNECT_S_MAX = 5.0
ANSWER_S_MAX = 0.02
"""The kernel answers for a program that listens, within microseconds, unless its queue is full: Python's http.server
has room for five. Then what was sent is lost, and the kernel would send it again only after a second."""
AWAKE_WAIT_S = 0.0
"""One that was awake all the while either listens or does not: its caller is told at once, as on any machine."""
LOOPBACK = "127.0.0.1"
_LISTEN = "0A"
"""The state of a socket in /proc/net/tcp."""
_NOBODY = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED})


class Dialer:
    def __init__(self, *, sandboxes: Sandboxes, sleeper: Sleeper, slots: SlotPool) -> None:
        self._sandboxes = sandboxes
        self._sleeper = sleeper
        self._slots = slots
        self._polling: dict[tuple[Path, int], asyncio.Event] = {}
        """Ports that somebody already looks at, set when somebody listens there or nobody looks any more."""
        self._full: dict[tuple[Path, int], asyncio.Lock] = {}
        """Held by the one caller that tries again at a port whose queue is full; the others stand in line."""

    def sleeps(self, sandbox_id: str) -> bool:
        return self._sandboxes.sleeps(sandbox_id)

    async def connect(self, sandbox_id: str, port: int, by: str) -> socket.socket:
        """A connected, non-blocking TCP socket, made inside the sandbox's network; the caller closes it. `by` says what
        for, such as `http 8080`. Raises Conflict when the sandbox does not run, Unavailable when nobody listens."""
        slept = self._sandboxes.sleeps(sandbox_id)
        async with self._sleeper.awake(sandbox_id, by):
            if not self._sandboxes.runs(sandbox_id):
                raise Conflict("the sandbox does not run; start it first")
            address = self._sandboxes.entry(sandbox_id).address
            network = self._slots.network_of(sandbox_id)
            # Its address first: a program that trusts its own machine must not take us for it. Many development
            # servers listen on loopback alone, so that comes next.
            hosts = (*([address] if address else []), LOOPBACK)
            # Who comes just after others have woken it meets a program that is still starting, as they do.
            woken_s = self._sleeper.woken_ago_s(sandbox_id)
            wait_s = LISTEN_WAIT_S if slept else AWAKE_WAIT_S if woken_s is None else LISTEN_WAIT_S - woken_s
            return await self._until_listening(network, hosts, port, wait_s)

    async def _until_listening(self, network: Path, hosts: tuple[str, ...], port: int, wait_s: float) -> socket.socket:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while True:
            for host in hosts:
                connected = await self._connect(network, host, port)
                if connected is not None:
                    return connected
            if loop.time() >= deadline_s:
                raise Unavailable(f"nobody listens on port {port} in the sandbox", retry_after_s=1)
            await self._look(network, port, deadline_s)

    async def _connect(self, network: Path, host: str, port: int) -> socket.socket | None:
        """None when nobody listens there. Raises Unavailable when somebody does and takes no connections."""
        try:
            return await _connect(network, host, port)
        except TimeoutError:
            pass
        place = network, port
        turn = self._full.setdefault(place, asyncio.Lock())
        try:
            async with asyncio.timeout(CONNECT_S_MAX), turn:
                while True:
                    with contextlib.suppress(TimeoutError):
                        return await _connect(network, host, port)
        except TimeoutError:
            raise Unavailable(f"port {port} in the sandbox takes no more connections", retry_after_s=1) from None
        finally:
            if not turn.locked():
                self._full.pop(place, None)

    async def _look(self, network: Path, port: int, deadline_s: float) -> None:
        """Until it is worth trying. Of all who wait for one port only one looks: fifty would take from the starting
        program the time that it needs to start."""
        loop = asyncio.get_running_loop()
        others = self._polling.get((network, port))
        if others is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline_s):
                    await others.wait()
            return
        mine = self._polling[network, port] = asyncio.Event()
        try:
            while loop.time() < deadline_s and not await asyncio.to_thread(_listens, network, port):  # noqa: ASYNC110
                await asyncio.sleep(LISTEN_POLL_S)
        finally:
            del self._polling[network, port]
            mine.set()


def _listens(network: Path, port: int) -> bool:
    """Whether anything listens on this port there, on whatever address: read from the kernel's table, since a
    connection that is only tried would be one that the program has to accept."""
    found: list[bool] = []

    def read() -> None:
        wanted = f":{port:04X}"
        for table in ("tcp", "tcp6"):
            with open(f"/proc/thread-self/net/{table}") as lines:
                for line in lines:
                    _, local, _, state, *_ = line.split(maxsplit=4)
                    if local.endswith(wanted) and state == _LISTEN:
                        found.append(True)
                        return

    inside(network, read)
    return bool(found)


async def _connect(network: Path, host: str, port: int) -> socket.socket | None:
    """None when nobody listens there. Raises TimeoutError when there is no answer."""
    fresh = socket_inside(network)
    try:
        fresh.setblocking(False)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(ANSWER_S_MAX):
            await asyncio.get_running_loop().sock_connect(fresh, (host, port))
    except TimeoutError:
        fresh.close()
        raise
    except OSError as error:
        fresh.close()
        if error.errno in _NOBODY:
            return None
        raise Unavailable(f"port {port} in the sandbox cannot be reached", because=str(error)) from None
    except BaseException:
        fresh.close()
        raise
    return fresh
