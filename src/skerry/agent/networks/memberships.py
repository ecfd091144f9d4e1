"""Put a sandbox into private networks: its address there, the way to it, and leave to use both.

A member has the network's address on an interface of its own and uses it towards the network alone, by the one cable
that it has. Programs that take the first address of an interface for their own (NCCL, Open MPI) so find the right one.
The host leads to each member by a route of its own. The firewall lets a link send from its member address to that
network and nowhere else; what is sent so and goes to a sandbox is therefore from one member to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from skerry.agent.firewall import Firewall
from skerry.agent.links import GUEST_LINK, Cable, exists
from skerry.agent.namespaces import inside
from skerry.agent.netlink import Netlink
from skerry.agent.networks.host_routes import ROUTES, route_in_the_way
from skerry.agent.networks.names import MemberNames, Names
from skerry.agent.slots import SlotPool
from skerry.errors import Invalid
from skerry.model.network import Membership, link_towards


class Memberships:
    def __init__(self, *, slots: SlotPool, firewall: Firewall, names: MemberNames) -> None:
        self._slots = slots
        self._firewall = firewall
        self._names = names

    async def hold(self, sandbox_id: str, names: Names, wanted: Sequence[Membership]) -> None:
        """In these networks and in no other from now on; its namespaces are in place. The same again repairs whatever
        is missing. Raises Conflict while another still has one of the addresses, Invalid where the machine needs one
        itself."""
        cable = self._slots.cable(sandbox_id)
        if cable is not None and (wanted or self._firewall.lanes(cable.link)):
            await asyncio.to_thread(self._hold, cable, self._slots.network_of(sandbox_id), wanted)
        self._names.put(sandbox_id, names, wanted)

    def know(self, sandbox_id: str, names: Names, wanted: Sequence[Membership]) -> None:
        """Of one that sleeps without processes: its names lead to its address all the same."""
        self._names.put(sandbox_id, names, wanted)

    async def leave(self, sandbox_id: str) -> None:
        """Every network; whoever comes next may have its addresses."""
        self._names.drop(sandbox_id)
        cable = self._slots.cable(sandbox_id)
        if cable is not None and (had := self._firewall.lanes(cable.link)):
            await asyncio.to_thread(self._leave, cable, self._slots.network_of(sandbox_id), had)

    def _hold(self, cable: Cable, namespace: Path, wanted: Sequence[Membership]) -> None:
        lanes = {each.address: each.subnet for each in wanted}
        had = self._firewall.lanes(cable.link)
        gone = {address: subnet for address, subnet in had.items() if lanes.get(address) != subnet}
        self._leave(cable, namespace, gone)
        table = ROUTES.read_text() if lanes.keys() - had.keys() else ""
        for address, subnet in lanes.items():
            way = route_in_the_way(subnet, table, self._firewall.links) if address not in had else None
            if way:
                raise Invalid(
                    f"networks: this machine has a route to {subnet} already ({way}); the network needs another"
                )
        # What is written here is also what a later agent goes by: first in, last out.
        self._firewall.join(cable.link, lanes)
        with Netlink() as host:
            for address in lanes:
                host.add_route(_single(address), cable.guest.ip, socket.if_nametoindex(cable.link))
        if lanes:
            inside(namespace, lambda: _arrive(cable, wanted))

    def _leave(self, cable: Cable, namespace: Path, gone: Mapping[str, str]) -> None:
        if not gone:
            return
        with contextlib.suppress(FileNotFoundError):  # its namespaces are not there: with them everything has gone
            inside(namespace, lambda: _depart(gone.values()))
            with Netlink() as host:
                for address in gone:
                    host.delete_route(_single(address), cable.guest.ip)
        self._firewall.leave(cable.link, gone)


def _single(address: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(address)


def _arrive(cable: Cable, wanted: Sequence[Membership]) -> None:
    by = socket.if_nametoindex(GUEST_LINK)
    with Netlink() as guest:
        for each in wanted:
            address = ipaddress.IPv4Interface(each.address)
            guest.add_address(_interface(guest, link_towards(each.subnet)), address)
            guest.add_route(ipaddress.IPv4Network(each.subnet), cable.gateway.ip, by, source=address.ip)


def _interface(guest: Netlink, name: str) -> int:
    """A bridge of nothing: any kernel that has containers has bridges, and many have no dummy links."""
    if not exists(name):
        guest.add_bridge(name)
        guest.set_up(socket.if_nametoindex(name))
    return socket.if_nametoindex(name)


def _depart(subnets: Iterable[str]) -> None:
    """The address and the route by it go with the interface."""
    with Netlink() as guest:
        for subnet in subnets:
            guest.delete_link(link_towards(subnet))
