"""Every published port of this machine: listened on for as long as its sandbox runs or sleeps."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence

from skerry.agent.ports.dial import Dialer
from skerry.agent.ports.listening import listeners_here
from skerry.agent.ports.relay import Relay
from skerry.agent.ports.tcp import TcpPort
from skerry.agent.ports.udp import UdpPort
from skerry.errors import Conflict, Forbidden, InUse, SkerryError
from skerry.model.port import HeldPort, PortState, Protocol, PublishedPort, clash
from skerry.telemetry import Log

BACKLOG = 128
RETRY_EVERY_S = 2.0
"""A port that another program held when we came back is tried again."""


class Publisher:
    def __init__(self, *, dialer: Dialer, relay: Relay, log: Log) -> None:
        self._dialer = dialer
        self._relay = relay
        self._log = log
        self._open: dict[str, dict[PublishedPort, TcpPort | UdpPort]] = {}
        self._missing: dict[str, dict[PublishedPort, str]] = {}
        """sandbox -> port that should be open and is not -> why."""
        self._retrying: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._retrying = asyncio.get_running_loop().create_task(self._retry())

    async def close(self) -> None:
        """Callers are let go; the sandboxes run on, and the next agent listens again."""
        if self._retrying is not None:
            self._retrying.cancel()
        for sandbox_id in list(self._open):
            self.withdraw(sandbox_id)

    # What Sandboxes asks for

    def claim(self, sandbox_id: str, ports: Sequence[PublishedPort]) -> None:
        """Have these; what comes is held until they are served. Raises InUse when another program has one, Conflict
        when a sandbox that is on its way out still does; then it has none."""
        had = self._open.setdefault(sandbox_id, {})
        try:
            for port in ports:
                if port not in had:
                    had[port] = self._listen(sandbox_id, port)
        except SkerryError:
            self.withdraw(sandbox_id)
            raise

    def serve(self, sandbox_id: str, ports: Sequence[PublishedPort]) -> None:
        """Exactly these, from now on; what cannot be had is tried again and again."""
        if not ports and sandbox_id not in self._open:
            return
        had = self._open.setdefault(sandbox_id, {})
        for port in [port for port in had if port not in ports]:
            had.pop(port).close()
        missing: dict[PublishedPort, str] = {}
        for port in ports:
            try:
                if port not in had:
                    had[port] = self._listen(sandbox_id, port)
                had[port].serve()
            except SkerryError as error:
                missing[port] = error.say
                if port not in self._missing.get(sandbox_id, {}):
                    self._log.warning("cannot publish a port", sandbox=sandbox_id, port=str(port), say=error.say)
        self._missing[sandbox_id] = missing
        if not missing:
            del self._missing[sandbox_id]

    def withdraw(self, sandbox_id: str) -> None:
        """None any more; connections through them end."""
        self._missing.pop(sandbox_id, None)
        for opened in self._open.pop(sandbox_id, {}).values():
            opened.close()

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_EVERY_S)
            for sandbox_id, missing in list(self._missing.items()):
                self.serve(sandbox_id, [*self._open.get(sandbox_id, {}), *missing])

    # What is told

    def states(self, sandbox_id: str, ports: Sequence[PublishedPort]) -> list[PortState]:
        return [self._state(sandbox_id, port) for port in ports]

    def _state(self, sandbox_id: str, port: PublishedPort) -> PortState:
        opened = self._open.get(sandbox_id, {}).get(port)
        if opened is None:
            problem = self._missing.get(sandbox_id, {}).get(port)
            return PortState(port=port, listening=False, problem=problem)
        counts = opened.counts
        return PortState(
            port=port,
            listening=True,
            connections=opened.connections,
            connections_total=counts.connections_total,
            received_bytes=counts.received_bytes,
            sent_bytes=counts.sent_bytes,
        )

    async def held_by_others(self) -> list[HeldPort]:
        """What programs of the machine listen on that are not us."""
        ours = {(port.ip, port.host, port.protocol) for ports in self._open.values() for port in ports}
        found = await asyncio.to_thread(listeners_here)
        return [HeldPort(ip=item.ip, host=item.port, protocol=item.protocol) for item in found if item not in ours]

    # Inside

    def _listen(self, sandbox_id: str, port: PublishedPort) -> TcpPort | UdpPort:
        for other_id, ports in self._open.items():
            if other_id != sandbox_id and any(clash(port, other) for other in ports):
                raise Conflict(f"{port} still belongs to a sandbox that is going", because=f"{other_id} has it")
        bound = _bound(port)
        if port.protocol is Protocol.UDP:
            return UdpPort(bound, dialer=self._dialer, sandbox_id=sandbox_id, guest=port.guest)
        return TcpPort(bound, dialer=self._dialer, relay=self._relay, sandbox_id=sandbox_id, guest=port.guest)


def _bound(port: PublishedPort) -> socket.socket:
    is_tcp = port.protocol is Protocol.TCP
    family = socket.AF_INET6 if ":" in port.ip else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_tcp:
            # What its predecessor's connections left behind must not stand in the way; of UDP this would let two share.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((port.ip, port.host or 0))
        if is_tcp:
            bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _refusal(port, error) from None
    return bound


def _refusal(port: PublishedPort, error: OSError) -> SkerryError:
    because = str(error)
    if error.errno == errno.EADDRINUSE:
        say = f"another program of this machine listens on {port}; end it, or publish another port"
        return InUse(say, because=because, field="ports")
    if error.errno == errno.EADDRNOTAVAIL:
        return InUse(f"this machine has no address {port.ip}", because=because, field="ports")
    return Forbidden(f"this machine may not listen on {port}", because=because, field="ports")
