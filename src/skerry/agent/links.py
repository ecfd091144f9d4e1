"""The cable between the host and one sandbox: a veth pair with a /30 on it, IPv4 only."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from skerry.agent.namespaces import UID_COUNT, Pins, inside
from skerry.agent.netlink import Netlink

GUEST_LINK = "eth0"
LOOPBACK_INDEX = 1
ADDRESSES_PER_SLOT = 4
_SYSCTL = Path("/proc/sys/net")


@dataclass(frozen=True)
class Cable:
    """Its host side, and the two usable addresses of the slot's four: gateway first, guest second."""

    link: str
    gateway: ipaddress.IPv4Interface
    guest: ipaddress.IPv4Interface


def cable_of(instance: str, subnet: ipaddress.IPv4Network, number: int) -> Cable:
    first = int(subnet.network_address) + number * ADDRESSES_PER_SLOT
    gateway, guest = (ipaddress.IPv4Interface((first + offset, 30)) for offset in (1, 2))
    return Cable(f"sk{instance}-{number:x}", gateway, guest)


def links_of(instance: str) -> dict[int, str]:
    """Host sides present now, by slot number."""
    prefix = f"sk{instance}-"
    found: dict[int, str] = {}
    for _, name in socket.if_nameindex():
        if name.startswith(prefix):
            try:
                found[int(name.removeprefix(prefix), 16)] = name
            except ValueError:
                continue
    return found


def exists(link: str) -> bool:
    try:
        socket.if_nametoindex(link)
    except OSError:
        return False
    return True


def delete(link: str) -> None:
    """Waits for the kernel some 30 ms; a link goes by itself, and cheaper, when its namespace does."""
    with Netlink() as host:
        host.delete_link(link)


def connect(pins: Pins, cable: Cable | None) -> None:
    """Bring up the network of a fresh namespace: loopback, and the cable unless the network is to be off."""
    if cable is not None:
        with Netlink() as host:
            _lay(host, pins, cable)
    inside(pins.network, lambda: _set_up_inside(pins, cable))


def _lay(host: Netlink, pins: Pins, cable: Cable) -> None:
    with pins.network.open("rb") as namespace:
        try:
            host.add_veth(cable.link, GUEST_LINK, namespace.fileno())
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            host.delete_link(cable.link)  # left by an agent that was killed
            host.add_veth(cable.link, GUEST_LINK, namespace.fileno())
    _write(_SYSCTL / "ipv6/conf" / cable.link / "disable_ipv6", "1")
    index = socket.if_nametoindex(cable.link)
    host.add_address(index, cable.gateway)
    host.set_up(index)


def _set_up_inside(pins: Pins, cable: Cable | None) -> None:
    for conf in ("all", "default"):
        _write(_SYSCTL / "ipv6/conf" / conf / "disable_ipv6", "1")
    # Without these a guest, which has neither capability, could not ping nor listen on port 80 as a plain user.
    _write(_SYSCTL / "ipv4/ping_group_range", f"{pins.uid_base} {pins.uid_base + UID_COUNT - 1}")
    _write(_SYSCTL / "ipv4/ip_unprivileged_port_start", "0")
    with Netlink() as guest:
        guest.set_up(LOOPBACK_INDEX)
        if cable is not None:
            index = socket.if_nametoindex(GUEST_LINK)
            guest.add_address(index, cable.guest)
            guest.set_up(index)
            guest.add_default_route(index, cable.gateway.ip)


def _write(file: Path, value: str) -> None:
    try:
        file.write_text(value + "\n")
    except FileNotFoundError:
        pass  # a kernel without that feature
