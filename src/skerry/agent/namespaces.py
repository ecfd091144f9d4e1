"""User and network namespaces made before anybody lives in them, and held open as files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.runtime.container.syscalls import bind_file, set_network_namespace, umount
from skerry.runtime.container.user_namespaces import NamespaceChild

UID_FIRST = 1_000_000
UID_COUNT = 65_536


@dataclass(frozen=True)
class Pins:
    """Where the two namespaces of slot `number` are (to be) found."""

    number: int
    user: Path
    network: Path

    @property
    def uid_base(self) -> int:
        return UID_FIRST + self.number * UID_COUNT

    def remove(self) -> None:
        """Namespaces that nobody is in die with it, a veth's other end with them."""
        for path in (self.network, self.user):
            while umount(path, lazy=True):
                pass
            path.unlink(missing_ok=True)

    def is_home_of(self, pid: int) -> bool:
        """Whether this process has the ids of this slot, which no other process on the machine has."""
        try:
            inside_id, host_id, count = Path(f"/proc/{pid}/uid_map").read_text().split()
        except (OSError, ValueError):
            return False
        return (int(inside_id), int(host_id), int(count)) == (0, self.uid_base, UID_COUNT)

    def bind(self, pid: int) -> None:
        """Pin the namespaces that this process is in."""
        self.remove()
        bind_file(f"/proc/{pid}/ns/user", self.user)
        bind_file(f"/proc/{pid}/ns/net", self.network)


def pin_new(places: Sequence[Pins]) -> None:
    """Make and pin a pair of namespaces for each; the children start side by side. All or none."""
    children: list[NamespaceChild] = []
    try:
        for _ in places:
            children.append(NamespaceChild(["--net"]))
        for place, child in zip(places, children, strict=True):
            child.wait_until_ready()
            mapped = ((0, place.uid_base, UID_COUNT),)
            child.map_ids(mapped, mapped)
            place.bind(child.pid)
    except BaseException:
        for place in places:
            place.remove()
        raise
    finally:
        for child in children:
            child.end()


def inside(network: Path, work: Callable[[], None]) -> None:
    """Do `work` in a network namespace: in a thread of its own that ends there, so that none is ever left inside."""
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            set_network_namespace(network)
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name="in-namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def socket_inside(network: Path, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """A socket of that namespace, made by this very thread: every connection into a sandbox needs one, and to start
    a thread for it took longer than all the rest of connecting. There is no way on for a thread that cannot come back:
    the agent would go on in a guest's network, so it ends, and the next one takes over."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        set_network_namespace(network)
        try:
            return socket.socket(family, kind)
        finally:
            try:
                set_network_namespace(Path(f"/proc/self/fd/{own}"))
            except BaseException:
                os.abort()
    finally:
        os.close(own)
