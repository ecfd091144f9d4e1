"""Which servers that are not ours a service may lead to: those that the operator names, and no other.

A gateway reaches what its machine reaches: this machine's own loopback, its network, a cloud's metadata. Whoever could
name any address would reach all of that with a key of one project. A host name is allowed by that name alone: what it
stands for may change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from skerry.errors import Invalid


def check_addresses(addresses: Sequence[str], allowed: Sequence[str]) -> None:
    """`allowed`: networks and host names. Raises Invalid."""
    for number, address in enumerate(addresses):
        host = urlsplit(address).hostname or ""
        if not _is_allowed(host, allowed):
            field = f"addresses[{number}]"
            named = ", ".join(allowed) or "none"
            say = f"{field}: {host} is not one that the operator lets services lead to ({named})"
            raise Invalid(f"{say}; serve with --service-addresses {host}", field=field)


def _is_allowed(host: str, allowed: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in allowed
    networks = [network for each in allowed if (network := _network(each)) is not None]
    return any(address in network for network in networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
