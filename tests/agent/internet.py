"""The world of the network tests with what egress by name needs: a nameserver, web servers, echoes, other resolvers."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import dns.message

from skerry.agent.links import GUEST_LINK
from skerry.agent.netlink import Netlink
from tests.agent.names import NameServer, Zone
from tests.agent.world import (
    FAR,
    METADATA,
    PATIENCE_S,
    PRIVATE,
    PRIVATE_OTHER,
    PUBLIC,
    UPLINK,
    World,
    silence,
    within,
    world_in,
)

DOH = "9.9.9.9"
"""A resolver over HTTPS that everybody knows."""
WEB_PORT = 8080
ZONE: Zone = {
    "allowed.test": [f"A {PUBLIC}"],
    "other.test": [f"A {PUBLIC}"],
    "late.test": [f"A {PUBLIC}"],
    "text.allowed.test": ["TXT hello"],
    "chain.test": [
        "CNAME middle.other.test.",
        "middle.other.test CNAME behind.other.test.",
        f"behind.other.test A {FAR}",
    ],
    "*.wild.test": [f"A {FAR}"],
    "rebind.wild.test": [f"A {PRIVATE}"],
    "loop.wild.test": ["A 127.0.0.1"],
    "metadata.wild.test": [f"A {METADATA}"],
    "here.wild.test": ["A 0.0.0.0"],
    "stray.wild.test": [f"A {PRIVATE}", f"elsewhere.test A {PUBLIC}"],
    "mixed.wild.test": [f"A {PUBLIC}", f"A {PRIVATE}"],
    "six.wild.test": ["AAAA 2001:db8::1"],
    "text.wild.test": ["TXT hello", f"A {FAR}"],
}

T = TypeVar("T")


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class Internet:
    """`names` is the nameserver that the host is told of; another, at a public address, answers the same."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sockets: list[socket.socket] = []
        with Netlink() as host:
            host.add_address(socket.if_nametoindex(UPLINK), ipaddress.IPv4Interface("9.9.9.254/24"))
        within(world.pins.network, self._furnish)

    def _furnish(self) -> None:
        with Netlink() as world:
            world.add_address(socket.if_nametoindex(GUEST_LINK), ipaddress.IPv4Interface(f"{DOH}/24"))
        self.names = NameServer(PRIVATE_OTHER, ZONE)
        self._others = [NameServer(address, ZONE) for address in (FAR, METADATA)]
        self._web = ThreadingHTTPServer(("0.0.0.0", WEB_PORT), _Page)
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        for port in (7, 443, 853):
            server = socket.create_server(("0.0.0.0", port))
            self._sockets.append(server)
            threading.Thread(target=_accept, args=(server,), daemon=True).start()
        for port in (443, 853):
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind((PUBLIC, port))
            self._sockets.append(listener)
            threading.Thread(target=_echo_datagrams, args=(listener,), daemon=True).start()

    def close(self) -> None:
        self._web.shutdown()
        self._web.server_close()
        silence(*self._sockets)
        for server in (self.names, *self._others):
            server.close()

    # From inside a sandbox while nobody is there to run a command in it

    def within_box(self, address: str | None, work: Callable[[], T]) -> T:
        return within(_namespace_with(address), work)

    def asks(self, server: str, name: str) -> dns.message.Message | None:
        query = dns.message.make_query(name, "A").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect((server, 53))
            try:
                client.send(query)
                return dns.message.from_wire(client.recv(4096))
            except OSError:
                return None

    def fetches(self, address: str) -> bool:
        try:
            with socket.create_connection((address, WEB_PORT), timeout=PATIENCE_S) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return bool(connection.recv(100))
        except OSError:
            return False


def _namespace_with(address: str | None) -> Path:
    """The network namespace of the process that has this address; each sandbox has one of its own."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                own = os.stat(f"/proc/{entry.name}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
                if own and f"|-- {address}\n" in Path(f"/proc/{entry.name}/net/fib_trie").read_text():
                    return Path(f"/proc/{entry.name}/ns/net")
    raise AssertionError(f"no process has {address}")


def _accept(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(4096):
            connection.sendall(data)


def _echo_datagrams(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            data, peer = server.recvfrom(4096)
            if peer is None:
                return
            server.sendto(data, peer)


@contextmanager
def internet_in(folder: Path) -> Iterator[Internet]:
    with world_in(folder) as world:
        internet = Internet(world)
        try:
            yield internet
        finally:
            internet.close()
