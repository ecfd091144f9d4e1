"""Whether this machine itself has a way to a private network's addresses: then they are somebody's already."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from skerry.model.node import RANGES_MAX

ROUTES = Path("/proc/net/route")


def route_in_the_way(subnet: str, table: str, own_links: str) -> str | None:
    """The first route of `table`, as ROUTES has it, to any of these addresses, but for the default route and those of
    links whose names begin with `own_links`."""
    wanted = ipaddress.IPv4Network(subnet)
    return next((f"{there} on {link}" for there, link in _routes(table, own_links) if there.overlaps(wanted)), None)


def ranges_taken(table: str, own_links: str) -> list[str]:
    """What those routes lead to, told in as few ranges as it takes."""
    found = ipaddress.collapse_addresses(there for there, _ in _routes(table, own_links))
    return [str(each) for each in found][:RANGES_MAX]


def _routes(table: str, own_links: str) -> Iterator[tuple[ipaddress.IPv4Network, str]]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0].startswith(own_links):
            continue
        there = ipaddress.IPv4Network((_number(fields[1]), _number(fields[7]).bit_count()))
        if there.prefixlen:
            yield there, fields[0]


def _number(field: str) -> int:
    """An address is listed in hex, by the bytes as the machine has them in memory."""
    return socket.ntohl(int(field, 16)) if struct.pack("=H", 1) == struct.pack("<H", 1) else int(field, 16)
