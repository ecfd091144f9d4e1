"""Connect to a port in a sandbox: wake it, then wait until somebody listens, so that no caller has to try again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import typing
from pathlib import Path

from skerry.agent.namespaces import socket_inside
from skerry.agent.ports.listening import listeners_of
from skerry.agent.sandboxes import Sandboxes
from skerry.agent.sleep.sleeper import Sleeper
from skerry.agent.slots import SlotPool
from skerry.errors import Conflict, NotFound, SkerryError, Unavailable
from skerry.model.port import Protocol

LISTEN_WAIT_S = 20.0
"""How long after its start, which may have been its waking, a sandbox's program may take until it listens. Of one that
has run for longer the caller is told at once that nobody does, as on any machine."""
LISTEN_POLL_S = 0.005
CONNECT_S_MAX = 5.0
ANSWER_S_MAX = 0.02
"""The kernel answers for a program that listens, within microseconds, unless its queue is full: Python's http.server
has room for five. Then what was sent is lost, and the kernel would send it again only after a second."""
LOOPBACKS = ("127.0.0.1", "::1")
_NOBODY = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EACCES}
)


class Readiness(typing.Protocol):
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
        self._waits: dict[tuple[str, int, Protocol], asyncio.Task[None]] = {}
        self._full: dict[tuple[Path, int], asyncio.Lock] = {}
        """Held by the one caller that tries again at a port whose queue is full; the others stand in line."""
        self._wakes: set[asyncio.Task[None]] = set()

    def sleeps(self, sandbox_id: str) -> bool:
        return self._sandboxes.sleeps(sandbox_id)

    def is_cold(self, sandbox_id: str) -> bool:
        """Whether nothing of it runs, and it starts for whoever wants it: what was connected to it no longer is."""
        return self._sandboxes.sleeps(sandbox_id) and not self._sandboxes.runs(sandbox_id)

    async def connect(
        self, sandbox_id: str, port: int, by: str, protocol: Protocol = Protocol.TCP, *, counts: bool = True
    ) -> socket.socket:
        """A connected, non-blocking socket, made inside the sandbox's network; the caller closes it. `by` says what
        for, such as `http 8080`; what does not count neither wakes the sandbox nor keeps it awake. Raises Conflict when
        the sandbox does not run, Unavailable when nobody listens."""
        if not counts:
            return await self._reach(sandbox_id, port, protocol)
        async with self._sleeper.awake(sandbox_id, by):
            return await self._reach(sandbox_id, port, protocol)

    async def _reach(self, sandbox_id: str, port: int, protocol: Protocol) -> socket.socket:
        if not self._sandboxes.runs(sandbox_id):
            raise Conflict("the sandbox does not run; start it first")
        starts = await self._services.ready(sandbox_id, port)
        address = self._sandboxes.entry(sandbox_id).address
        network = self._slots.network_of(sandbox_id)
        # Its address first: a program that trusts its own machine must not take us for it. Many development servers
        # listen on loopback alone, some of them on that of IPv6, so those come next.
        hosts = (*([address] if address else []), *LOOPBACKS)
        connect = self._connect_udp if protocol is Protocol.UDP else self._connect_tcp
        connected = await connect(network, hosts, port)
        if connected is None and (starts or self._is_young(sandbox_id)):
            await self._listening(sandbox_id, network, port, protocol)
            connected = await connect(network, hosts, port)
        if connected is None:
            raise Unavailable(f"nobody listens on port {port} in the sandbox", retry_after_s=1)
        return connected

    def moved(self, sandbox_id: str, by: str, *, inward: bool) -> None:
        """Bytes went through an open connection: that is activity, and what goes to a sandbox wakes it."""
        if inward and self._sandboxes.sleeps(sandbox_id):
            task = asyncio.get_running_loop().create_task(self._wake(sandbox_id, by))
            self._wakes.add(task)
            task.add_done_callback(self._wakes.discard)
            return
        try:
            self._sleeper.touch(sandbox_id, by)
        except NotFound:  # it was deleted this moment; the connection ends with it
            return

    async def _wake(self, sandbox_id: str, by: str) -> None:
        try:
            await self._sleeper.wake(sandbox_id, by)
        except SkerryError:
            return  # the next bytes try again, and whoever sent these waits for an answer as on a slow network

    def _is_young(self, sandbox_id: str) -> bool:
        """Whether what was begun in it may still be on its way to listen. Where only services are, they tell."""
        ran_s = self._sandboxes.ran_for_s(sandbox_id)
        spec = self._sandboxes.order_of(sandbox_id).spec
        services_only = spec.command is None and bool(spec.services)
        return not services_only and ran_s is not None and ran_s < LISTEN_WAIT_S

    async def _listening(self, sandbox_id: str, network: Path, port: int, protocol: Protocol) -> None:
        """Returns when somebody listens, or when nobody has for too long. All who wait for one port wait for one watch:
        it looks at the kernel's table, since a connection made to try would be one that the program has to serve."""
        key = (sandbox_id, port, protocol)
        task = self._waits.get(key)
        if task is None:
            task = self._waits[key] = asyncio.get_running_loop().create_task(_until_listening(network, port, protocol))
            task.add_done_callback(lambda _: self._waits.pop(key, None))
        await asyncio.shield(task)

    async def _connect_tcp(self, network: Path, hosts: tuple[str, ...], port: int) -> socket.socket | None:
        """To the first of the hosts where somebody listens; None when nobody does. Raises Unavailable when somebody
        does and takes no connections."""
        for host in hosts:
            try:
                connected = await _connect(network, host, port, ANSWER_S_MAX)
            except TimeoutError:
                connected = await self._in_line(network, host, port)
            if connected is not None:
                return connected
        return None

    async def _in_line(self, network: Path, host: str, port: int) -> socket.socket | None:
        place = network, port
        turn = self._full.setdefault(place, asyncio.Lock())
        try:
            async with asyncio.timeout(CONNECT_S_MAX), turn:
                while True:
                    with contextlib.suppress(TimeoutError):
                        return await _connect(network, host, port, ANSWER_S_MAX)
        except TimeoutError:
            raise Unavailable(f"port {port} in the sandbox takes no more connections", retry_after_s=1) from None
        finally:
            if not turn.locked():
                self._full.pop(place, None)

    async def _connect_udp(self, network: Path, hosts: tuple[str, ...], port: int) -> socket.socket | None:
        """No handshake says whether anybody listens, so the kernel's table does."""
        found = await asyncio.to_thread(_hosts_listening, network, hosts, port)
        return await _connect(network, found[0], port, CONNECT_S_MAX, socket.SOCK_DGRAM) if found else None


def _hosts_listening(network: Path, hosts: tuple[str, ...], port: int) -> tuple[str, ...]:
    ips = {item.ip for item in listeners_of(network) if item.port == port and item.protocol is Protocol.UDP}
    # One that listens on :: mostly takes IPv4 as well.
    return tuple(host for host in hosts if host in ips or "::" in ips or ("0.0.0.0" in ips and ":" not in host))


async def _until_listening(network: Path, port: int, protocol: Protocol) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + LISTEN_WAIT_S
    while loop.time() < deadline_s:
        found = await asyncio.to_thread(listeners_of, network)
        if any(listener.port == port and listener.protocol is protocol for listener in found):
            return
        await asyncio.sleep(LISTEN_POLL_S)


async def _connect(
    network: Path, host: str, port: int, answer_s: float, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket | None:
    """None when nobody listens there. Raises TimeoutError when there is no answer."""
    fresh = socket_inside(network, socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        fresh.setblocking(False)
        if kind is socket.SOCK_STREAM:
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(answer_s):
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
