"""A second network namespace that plays the internet, and clients that run inside any namespace of a test."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from skerry.agent.egress.egress import placed
from skerry.agent.firewall import Firewall
from skerry.agent.links import GUEST_LINK
from skerry.agent.namespaces import Pins, inside, pin_new
from skerry.agent.netlink import Netlink
from skerry.model.policy import Policy, Rule
from skerry.runtime.contract import Slot

INSTANCE = "b0b0"
SUBNET = "10.211.0.0/24"
UPLINK = "wdb0b0-0"
# Public, and nobody's since RFC 7526: those for documentation are at times a machine's own way to its packages.
HOST = "192.88.99.254"
PUBLIC = "192.88.99.1"
FAR = "198.51.100.1"
PRIVATE = "10.99.0.1"
PRIVATE_OTHER = "10.98.0.1"
METADATA = "169.254.169.254"
TCP_PORTS = (25, 53, 80)
PATIENCE_S = 10.0
"""How long an answer that must come may take: a machine with other work on it is slow."""
SILENCE_S = 0.5
"""How long to listen for one that must not come, where what is refused is dropped in silence."""
_PINS_NUMBER = 9000

T = TypeVar("T")


def within(network: Path, work: Callable[[], T]) -> T:
    """The answer of `work` done in that network namespace; sockets made there stay there."""
    answers: list[T] = []
    inside(network, lambda: answers.append(work()))
    return answers[0]


def fetch(address: str, port: int, source: str | None = None, *, patience: float = PATIENCE_S) -> str:
    """What a TCP server says first (here: who it sees), or why it could not be asked."""
    try:
        start = (source, 0) if source else None
        with socket.create_connection((address, port), timeout=patience, source_address=start) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return f"refused: {error}"


def ask(address: str, port: int, text: str, source: str | None = None, *, patience: float = PATIENCE_S) -> str | None:
    """The answer to one datagram; None if none came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        if source:
            client.bind((source, 0))
        try:
            client.sendto(text.encode(), (address, port))
            return client.recv(100).decode()
        except OSError:
            return None


def listener(address: str, port: int = 0) -> socket.socket:
    """A TCP server in this thread's namespace that tells everybody the address it sees; end it with `silence`."""
    server = socket.create_server((address, port))
    threading.Thread(target=_tell_peers, args=(server,), daemon=True).start()
    return server


def _tell_peers(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, peer = server.accept()
            with connection:
                connection.sendall(peer[0].encode())


def silence(*servers: socket.socket) -> None:
    """Close them, and wake the threads that wait on them: a waiting thread would keep its namespace alive."""
    for server in servers:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def allow(firewall: Firewall, slot: Slot, *ranges: str) -> None:
    """Exactly these ranges, besides all that is public."""
    policy = Policy(rules=[Rule(cidr=each) for each in ranges])
    firewall.place(str(slot.address), placed(policy), anew=True)


class World:
    """Addresses of every kind behind one uplink of the host; what arrived as a datagram is kept in `heard`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.pins = Pins(_PINS_NUMBER, folder / "world.user", folder / "world.net")
        self.heard: list[str] = []
        self._sockets: list[socket.socket] = []

    def build(self) -> None:
        pin_new([self.pins])
        with Netlink() as host, self.pins.network.open("rb") as namespace:
            host.delete_link(UPLINK)
            host.add_veth(UPLINK, GUEST_LINK, namespace.fileno())
            index = socket.if_nametoindex(UPLINK)
            host.add_address(index, ipaddress.IPv4Interface(f"{HOST}/24"))
            # Neighbours on the link in place of routes: whatever the host sends to these, it sends to the world.
            for network in ("198.51.100.254/24", "10.99.0.254/24", "10.98.0.254/24", "169.254.169.253/30"):
                host.add_address(index, ipaddress.IPv4Interface(network))
            host.set_up(index)
        inside(self.pins.network, self._furnish)

    def _furnish(self) -> None:
        with Netlink() as world:
            world.set_up(1)
            index = socket.if_nametoindex(GUEST_LINK)
            world.set_up(index)
            for address in (PUBLIC, FAR, PRIVATE, PRIVATE_OTHER):
                world.add_address(index, ipaddress.IPv4Interface(f"{address}/24"))
            world.add_address(index, ipaddress.IPv4Interface(f"{METADATA}/30"))
            world.add_default_route(index, ipaddress.IPv4Address(HOST))
        self._sockets = [listener("0.0.0.0", port) for port in TCP_PORTS]
        for port in (53, 7777):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind((PRIVATE if port == 53 else PUBLIC, port))
            self._sockets.append(server)
            threading.Thread(target=self._answer, args=(server,), daemon=True).start()

    def _answer(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                data, peer = server.recvfrom(1000)
                if peer is None:  # shut down
                    return
                self.heard.append(data.decode())
                server.sendto(b"answer to " + data, peer)

    def destroy(self) -> None:
        silence(*self._sockets)
        self.pins.remove()
        with Netlink() as host:
            host.delete_link(UPLINK)


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    world = World(folder)
    try:
        world.build()
        yield world
    finally:
        world.destroy()
