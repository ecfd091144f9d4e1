"""A private network: sandboxes that joined it reach each other by an address and a name, and nobody else does."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from skerry.errors import LimitReached
from skerry.model.fields import Frozen, Labels, Name

NETWORKS_MAX = 1000
JOINS_MAX = 16
"""Networks of one sandbox."""
PREFIX_MIN, PREFIX_MAX = 16, 29
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")


def _subnet(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError("expected a private IPv4 range such as 10.77.0.0/24") from None
    if not PREFIX_MIN <= network.prefixlen <= PREFIX_MAX:
        raise ValueError(f"expected a range between /{PREFIX_MIN} and /{PREFIX_MAX}, such as 10.77.0.0/24")
    if str(network) != text:
        raise ValueError(f"expected a range by its first address, such as {network}")
    if not any(network.subnet_of(ipaddress.IPv4Network(each)) for each in PRIVATE):
        raise ValueError(f"expected a range within {', '.join(PRIVATE)}: others belong to somebody")
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("expected an IPv4 address such as 10.77.0.5") from None


Subnet = Annotated[str, Field(max_length=18), AfterValidator(_subnet)]
Address = Annotated[str, Field(max_length=15), AfterValidator(_address)]


class NetworkRequest(Frozen):
    name: Name
    """Also the second half of its members' names: `db.NAME`. Not that of a domain that is needed, such as `com`."""
    subnet: Subnet
    """Its members' addresses; no other network's, and none that the machine itself has or has a route to."""
    internal: bool = False
    """A sandbox all of whose networks are internal has no way outside."""
    labels: Labels = {}


class PrivateNetwork(Frozen):
    """The record. Nothing of it ever changes: what a machine needs of it is written down with each member."""

    id: str
    project: str
    name: str
    subnet: str
    internal: bool
    labels: Labels = {}
    created_at: datetime


class Member(Frozen):
    """A sandbox in a network, whatever its state: its address is its own until it leaves or is deleted."""

    sandbox: str
    """Id."""
    name: str
    state: str
    address: str


class NetworkWithMembers(PrivateNetwork):
    members: list[Member]


class Join(Frozen):
    """A sandbox's wish to be in a network."""

    name: Name
    address: Address | None = None
    """None: a free one is chosen, from the end of the range, and kept."""


class Membership(Frozen):
    """A wish that was granted, with all that a machine has to know of the network."""

    name: str
    address: str
    subnet: str
    internal: bool = False


def link_towards(subnet: str) -> str:
    """The network interface of a member that has its address there; the same in all members."""
    return f"net{int(ipaddress.IPv4Network(subnet).network_address):08x}"


def overlapping(subnet: str, others: Iterable[str]) -> str | None:
    """The first of `others` that shares an address with it."""
    network = ipaddress.IPv4Network(subnet)
    return next((other for other in others if network.overlaps(ipaddress.IPv4Network(other))), None)


def is_host_of(address: str, subnet: str) -> bool:
    """Whether a member may have it: of the range, and neither its first, which names it, nor its last, broadcast."""
    network = ipaddress.IPv4Network(subnet)
    return int(network.network_address) < int(ipaddress.IPv4Address(address)) < int(network.broadcast_address)


def choose_subnet(pool: str, addresses: int, taken: Iterable[str]) -> str:
    """A range within `pool` that has so many addresses for members and shares none with `taken`. Raises
    LimitReached."""
    whole = ipaddress.IPv4Network(pool)
    prefix = min(max(32 - (addresses + 1).bit_length(), PREFIX_MIN, whole.prefixlen), PREFIX_MAX)
    size = 2 ** (32 - prefix)
    start = int(whole.network_address)
    for other in sorted(ipaddress.IPv4Network(each) for each in taken):
        if int(other.broadcast_address) < start:
            continue
        if int(other.network_address) >= start + size:
            break
        start = -(-(int(other.broadcast_address) + 1) // size) * size
    if size - 2 < addresses or start + size - 1 > int(whole.broadcast_address):
        raise LimitReached(f"no range of {addresses} addresses is free in {pool}; wait for other jobs, or enlarge it")
    return str(ipaddress.IPv4Network((start, prefix)))


def choose_addresses(subnet: str, count: int, taken: Collection[str]) -> list[str]:
    """The first free ones, in ascending order. Raises LimitReached."""
    network = ipaddress.IPv4Network(subnet)
    numbers = {int(ipaddress.IPv4Address(each)) for each in taken}
    free = (each for each in range(int(network.network_address) + 1, int(network.broadcast_address)))
    chosen = list(itertools.islice((each for each in free if each not in numbers), count))
    if len(chosen) < count:
        raise LimitReached(f"fewer than {count} addresses of {subnet} are free")
    return [str(ipaddress.IPv4Address(each)) for each in chosen]


def choose_address(subnet: str, taken: Collection[str]) -> str:
    """The last free one, so that those at the beginning stay for who asks for one by name. Raises LimitReached."""
    network = ipaddress.IPv4Network(subnet)
    numbers = {int(ipaddress.IPv4Address(each)) for each in taken}
    for number in range(int(network.broadcast_address) - 1, int(network.network_address), -1):
        if number not in numbers:
            return str(ipaddress.IPv4Address(number))
    raise LimitReached(f"every address of {subnet} is taken; delete a member, or make a larger network")
