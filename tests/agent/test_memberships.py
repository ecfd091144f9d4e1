"""Private networks attacked from inside real network namespaces, by whoever is root there and has every capability."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from skerry.agent.firewall import Firewall
from skerry.agent.links import GUEST_LINK, delete, links_of
from skerry.agent.netlink import Netlink
from skerry.agent.networks.memberships import Memberships
from skerry.agent.networks.names import MemberNames, Names
from skerry.agent.slots import SlotPool
from skerry.errors import Conflict, Invalid
from skerry.model.network import Membership
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Slot
from tests.agent.world import (
    INSTANCE,
    PATIENCE_S,
    PRIVATE,
    PUBLIC,
    SILENCE_S,
    SUBNET,
    UPLINK,
    World,
    allow,
    ask,
    fetch,
    listener,
    silence,
    within,
    world_in,
)

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PORT = 8000
BOXES = ("db", "web", "cache", "stranger")


def back(last: int) -> Membership:
    return Membership(name="back", address=f"10.177.0.{last}", subnet="10.177.0.0/24")


def front(last: int) -> Membership:
    return Membership(name="front", address=f"10.178.0.{last}", subnet="10.178.0.0/24", internal=True)


SIOCGIFADDR = 0x8915
JOINED = {"db": [back(5)], "web": [back(6), front(6)], "cache": [front(7)], "stranger": []}


@dataclass
class Lab:
    runner: asyncio.Runner
    world: World
    firewall: Firewall
    slots: SlotPool
    memberships: Memberships
    boxes: dict[str, Slot]

    def join(self, name: str, *networks: Membership) -> None:
        self.runner.run(self.memberships.hold(name, Names(name, name), networks))

    def from_(self, name: str, address: str, source: str | None = None, port: int = PORT) -> str:
        return within(self.boxes[name].network_namespace, lambda: fetch(address, port, source))

    def refused(self, name: str, address: str, source: str | None = None, port: int = PORT) -> bool:
        inside = self.boxes[name].network_namespace
        return within(inside, lambda: fetch(address, port, source, patience=SILENCE_S)).startswith("refused")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    unshare_mount_namespace()
    folder = tmp_path_factory.mktemp("memberships")
    firewall = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=PRIVATE)
    slots = SlotPool(instance=INSTANCE, run_path=folder, subnet=SUBNET, ahead=0, firewall=firewall, count_max=8)
    memberships = Memberships(slots=slots, firewall=firewall, names=MemberNames())

    async def lease() -> dict[str, Slot]:
        await slots.open({})
        return {name: await slots.lease(name, network=True) for name in BOXES}

    async def close() -> None:
        await slots.close()
        firewall.open()
        firewall.purge()
        firewall.close()

    with asyncio.Runner() as runner, world_in(folder / "world") as world:
        try:
            boxes = runner.run(lease())
            allow(firewall, boxes["stranger"], "10.0.0.0/8", "0.0.0.0/0")
            servers = [within(box.network_namespace, lambda: listener("0.0.0.0", PORT)) for box in boxes.values()]
            yield Lab(runner, world, firewall, slots, memberships, boxes)
            silence(*servers)
        finally:
            runner.run(close())
            # Connections to who has left are still being ended there, for minutes, and keep a namespace and its link.
            for link in links_of(INSTANCE).values():
                delete(link)


@pytest.fixture(autouse=True)
def joined(lab: Lab) -> None:
    for name in BOXES:
        lab.join(name)
    for name, networks in JOINED.items():
        lab.join(name, *networks)


def test_members_reach_each_other_and_see_each_others_address(lab: Lab) -> None:
    assert lab.from_("web", "10.177.0.5") == "10.177.0.6"
    assert lab.from_("db", "10.177.0.6") == "10.177.0.5"
    assert lab.from_("web", "10.178.0.7") == "10.178.0.6"
    assert lab.from_("cache", "10.178.0.6") == "10.178.0.7"


def test_each_network_has_an_interface_of_its_own(lab: Lab) -> None:
    """Which libraries that go by interfaces, and take the first address of one, rely on."""

    def addresses() -> dict[str, str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
            told = {
                name: fcntl.ioctl(asks, SIOCGIFADDR, struct.pack("256s", name.encode()))
                for _, name in socket.if_nameindex()
                if name != "lo"
            }
        return {name: socket.inet_ntoa(found[20:24]) for name, found in told.items()}

    inside = lab.boxes["web"].network_namespace
    slot = {GUEST_LINK: str(lab.boxes["web"].address)}
    assert within(inside, addresses) == {**slot, "net0ab10000": "10.177.0.6", "net0ab20000": "10.178.0.6"}
    lab.join("web", front(6))
    assert within(inside, addresses) == {**slot, "net0ab20000": "10.178.0.6"}
    lab.join("web")
    assert within(inside, addresses) == slot


@pytest.mark.parametrize(
    ("name", "address"),
    [("db", "10.178.0.7"), ("db", "10.178.0.6"), ("cache", "10.177.0.5"), ("cache", "10.177.0.6")]
    + [("stranger", each) for each in ("10.177.0.5", "10.177.0.6", "10.178.0.7")],
)
def test_nobody_reaches_a_network_he_is_not_in(lab: Lab, name: str, address: str) -> None:
    assert lab.refused(name, address)


def test_a_member_does_not_reach_the_other_networks_of_another_member_through_him(lab: Lab) -> None:
    """Not by his own address there, nor by routing through him, nor by the addresses of slots."""
    assert lab.refused("db", "10.178.0.6", source="10.177.0.5")
    assert lab.refused("db", str(lab.boxes["web"].address))
    assert lab.refused("db", str(lab.boxes["web"].address), source="10.177.0.5")


@pytest.mark.parametrize("name", ["stranger", "cache", "web"])
def test_an_address_that_one_gives_oneself_is_of_no_use(lab: Lab, name: str) -> None:
    stolen = ["10.177.0.5", "10.177.0.99"]
    inside = lab.boxes[name].network_namespace

    def steal() -> None:
        with Netlink() as guest:
            for address in stolen:
                guest.add_address(socket.if_nametoindex(GUEST_LINK), ipaddress.IPv4Interface(address))

    def give_back() -> None:
        with Netlink() as guest:
            for address in stolen:
                guest.delete_address(socket.if_nametoindex(GUEST_LINK), ipaddress.IPv4Interface(address))

    within(inside, steal)
    try:
        for source in stolen:
            assert lab.refused(name, "10.177.0.6" if name != "web" else "10.178.0.7", source)
            assert lab.refused(name, PUBLIC, source, 80)
            question = (str(lab.boxes[name].nameserver), 53, "x", source)
            answer = within(inside, lambda question=question: ask(*question, patience=SILENCE_S))
            assert answer is None
    finally:
        within(inside, give_back)
    assert lab.from_("web", "10.177.0.5") == "10.177.0.6", "the owner is where he was"


@pytest.mark.parametrize("address", [PUBLIC, PRIVATE])
def test_a_members_address_leads_nowhere_else(lab: Lab, address: str) -> None:
    """Else it were a way around the policy, which goes by the slot's."""
    assert lab.from_("web", PUBLIC, port=80) != "", "from its slot it does"
    assert not lab.refused("web", PUBLIC, port=80)
    assert lab.refused("web", address, "10.177.0.6", 80)
    gateway = str(lab.boxes["web"].nameserver)
    inside = lab.boxes["web"].network_namespace
    assert within(inside, lambda: ask(gateway, 53, "x")) is not None, "from its slot it asks for names"
    assert within(inside, lambda: ask(gateway, 53, "x", "10.177.0.6", patience=SILENCE_S)) is None


def test_the_slots_address_is_not_a_members(lab: Lab) -> None:
    assert lab.refused("web", "10.177.0.5", str(lab.boxes["web"].address))


def test_who_leaves_is_cut_off_at_once_and_his_address_is_free(lab: Lab) -> None:
    inside = lab.boxes["web"].network_namespace
    with (
        within(inside, lambda: socket.create_server(("10.177.0.6", 9000))) as server,
        within(
            lab.boxes["db"].network_namespace, lambda: socket.create_connection(("10.177.0.6", 9000), PATIENCE_S)
        ) as there,
        server.accept()[0] as here,
    ):
        assert arrives(there, here)
        lab.join("web", front(6))
        for one, other in ((there, here), (here, there)):
            other.settimeout(SILENCE_S)
            assert not arrives(one, other)
    assert lab.refused("db", "10.177.0.6")
    assert lab.refused("web", "10.177.0.5")
    assert lab.from_("web", "10.178.0.7") == "10.178.0.6", "where he stays he is"
    lab.join("cache", front(7), back(6))
    assert lab.from_("cache", "10.177.0.5") == "10.177.0.6"


def test_an_address_that_another_has_yet_is_waited_for(lab: Lab) -> None:
    with pytest.raises(Conflict, match=r"10\.177\.0\.5 is still another sandbox's"):
        lab.join("cache", front(7), back(5))
    assert lab.from_("web", "10.177.0.5") == "10.177.0.6"
    lab.join("db")
    lab.join("cache", front(7), back(5))
    assert lab.from_("web", "10.177.0.5") == "10.177.0.6"


def test_a_network_where_the_machine_has_a_way_is_refused(lab: Lab) -> None:
    inside = Membership(name="lan", address="10.99.0.5", subnet="10.99.0.0/16")
    with pytest.raises(Invalid, match=r"has a route to 10\.99\.0\.0/16 already"):
        lab.join("db", back(5), inside)
    assert lab.from_("web", "10.177.0.5") == "10.177.0.6"


def test_what_is_said_to_one_who_has_left_goes_nowhere_else(lab: Lab) -> None:
    """Not even replies, which pass everywhere else, and not even if the machine has got a way there meanwhile."""
    ours, theirs = (ipaddress.IPv4Interface(f"10.177.0.{last}/24") for last in (254, 6))

    def datagrams(address: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, 5555))
        made.settimeout(PATIENCE_S)
        return made

    def furnish(verb: str, link: str, address: ipaddress.IPv4Interface) -> None:
        with Netlink() as there:
            getattr(there, verb)(socket.if_nametoindex(link), address)

    db, web, world = (
        *(lab.boxes[name].network_namespace for name in ("db", "web")),
        lab.world.pins.network,
    )
    with within(web, lambda: datagrams("10.177.0.6")) as asks, within(db, lambda: datagrams("10.177.0.5")) as answers:
        asks.sendto(b"x", ("10.177.0.5", 5555))
        assert answers.recv(9) == b"x"
        lab.join("web")
        furnish("add_address", UPLINK, ours)
        within(world, lambda: furnish("add_address", GUEST_LINK, theirs))
        try:
            with within(world, lambda: datagrams("10.177.0.6")) as elsewhere:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
                    host.sendto(b"host", ("10.177.0.6", 5555))
                    assert elsewhere.recv(9) == b"host", "the machine reaches it"
                answers.sendto(b"y", ("10.177.0.6", 5555))
                elsewhere.settimeout(SILENCE_S)
                with pytest.raises(TimeoutError):
                    elsewhere.recv(9)
        finally:
            within(world, lambda: furnish("delete_address", GUEST_LINK, theirs))
            furnish("delete_address", UPLINK, ours)


def test_it_stays_when_the_agent_begins_anew_and_goes_with_the_slot(lab: Lab) -> None:
    firewall = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=PRIVATE)
    firewall.open([str(lab.boxes[name].address) for name in ("db", "web")])
    try:
        assert firewall.lanes(cable(lab, "web")) == {"10.177.0.6": "10.177.0.0/24", "10.178.0.6": "10.178.0.0/24"}
        assert firewall.lanes(cable(lab, "cache")) == {}, "nobody said that this one lives"
        assert lab.from_("web", "10.177.0.5") == "10.177.0.6"
        firewall.dismiss([(cable(lab, "web"), str(lab.boxes["web"].address))])
        assert firewall.lanes(cable(lab, "web")) == {}
        assert lab.refused("web", "10.177.0.5")
    finally:
        firewall.close()
        lab.firewall.open([str(slot.address) for slot in lab.boxes.values()])
        lab.firewall.admit((cable(lab, name), str(slot.address)) for name, slot in lab.boxes.items())


def arrives(one: socket.socket, other: socket.socket) -> bool:
    try:
        one.sendall(b"y")
        return other.recv(1) == b"y"
    except OSError:
        return False


def cable(lab: Lab, name: str) -> str:
    found = lab.slots.cable(name)
    assert found is not None
    return found.link
