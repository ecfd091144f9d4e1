"""Attacks from inside a real network namespace: what a sandbox reaches, and what it must never reach."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.agent.firewall import Firewall
from skerry.agent.links import GUEST_LINK
from skerry.agent.nameservers import usable_nameserver
from skerry.agent.netlink import Netlink
from skerry.agent.ruleset import CONNECTIONS_MAX
from skerry.agent.slots import SlotPool
from skerry.errors import Failed
from skerry.model.verdict import REFUSED
from skerry.runtime.container.syscalls import unshare_mount_namespace
from skerry.runtime.contract import Slot
from tests.agent.world import (
    FAR,
    HOST,
    INSTANCE,
    METADATA,
    PATIENCE_S,
    PRIVATE,
    PRIVATE_OTHER,
    PUBLIC,
    SILENCE_S,
    SUBNET,
    World,
    allow,
    ask,
    fetch,
    listener,
    silence,
    within,
    world_in,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@dataclass
class Lab:
    world: World
    firewall: Firewall
    plain: Slot
    """Nothing allowed."""
    allowed: Slot
    """10.99.0.0/24 is."""
    greedy: Slot
    """Everything is, as far as a spec can say so."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    unshare_mount_namespace()
    folder = tmp_path_factory.mktemp("firewall")
    firewall = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=PRIVATE)
    slots = SlotPool(instance=INSTANCE, run_path=folder, subnet=SUBNET, ahead=0, firewall=firewall, count_max=8)

    async def lease() -> tuple[Slot, Slot, Slot]:
        await slots.open({})
        plain = await slots.lease("plain", network=True)
        allowed = await slots.lease("allowed", network=True)
        greedy = await slots.lease("greedy", network=True)
        allow(firewall, allowed, "10.99.0.0/24", "10.99.0.0/25")
        allow(firewall, greedy, "0.0.0.0/0", "169.254.169.254", *REFUSED)
        return plain, allowed, greedy

    async def close() -> None:
        await slots.close()
        firewall.open()
        firewall.purge()
        firewall.close()

    with asyncio.Runner() as runner, world_in(folder / "world") as world:
        try:
            yield Lab(world, firewall, *runner.run(lease()))
        finally:
            runner.run(close())


def test_the_public_internet_is_reached_under_the_hosts_address(lab: Lab) -> None:
    for slot in (lab.plain, lab.allowed, lab.greedy):
        assert within(slot.network_namespace, lambda: fetch(PUBLIC, 80)) == HOST
    assert within(lab.plain.network_namespace, lambda: fetch(FAR, 80)) == "198.51.100.254"


@pytest.mark.parametrize("address", [PRIVATE, PRIVATE_OTHER, METADATA])
def test_private_ranges_and_metadata_are_refused(lab: Lab, address: str) -> None:
    assert not fetch(address, 80).startswith("refused"), "the host reaches it"
    assert within(lab.plain.network_namespace, lambda: fetch(address, 80)).startswith("refused")


def test_allow_opens_the_named_range_and_no_other(lab: Lab) -> None:
    inside = lab.allowed.network_namespace
    assert within(inside, lambda: fetch(PRIVATE, 80)) == "10.99.0.254"
    assert within(inside, lambda: fetch(PRIVATE_OTHER, 80)).startswith("refused")


def test_no_allowance_opens_metadata_mail_the_host_or_other_sandboxes(lab: Lab) -> None:
    inside = lab.greedy.network_namespace
    server = within(lab.plain.network_namespace, lambda: listener("0.0.0.0", 8000))
    host = listener("0.0.0.0")
    port = host.getsockname()[1]
    gateways = [slot.nameserver for slot in (lab.greedy, lab.plain)]
    try:
        assert within(inside, lambda: fetch(PRIVATE_OTHER, 80)) == "10.98.0.254", "the allowance itself works"
        targets = [(METADATA, 80), (PUBLIC, 25), (lab.plain.address, 8000), (HOST, port)]
        for address, number in [*targets, *((gateway, port) for gateway in gateways)]:
            answer = within(inside, lambda to=(str(address), number): fetch(*to))
            assert answer.startswith("refused"), f"{address}:{number}"
    finally:
        silence(server, host)


def test_the_hosts_services_are_out_of_reach_but_the_host_reaches_its_sandboxes(lab: Lab) -> None:
    inside = lab.plain.network_namespace
    everywhere, loopback = listener("0.0.0.0"), listener("127.0.0.1")
    ports = [server.getsockname()[1] for server in (everywhere, loopback)]
    guest = within(inside, lambda: listener("0.0.0.0", 8001))
    try:
        for address in (str(lab.plain.nameserver), "127.0.0.1", HOST):
            for port in ports:
                assert within(inside, lambda to=(address, port): fetch(*to)).startswith("refused"), f"{address}:{port}"
        assert fetch(str(lab.plain.address), 8001) == lab.plain.nameserver
    finally:
        silence(everywhere, loopback, guest)


def test_nobody_outside_begins_a_connection_to_a_sandbox(lab: Lab) -> None:
    guest = within(lab.plain.network_namespace, lambda: listener("0.0.0.0", 8002))
    try:
        answer = within(lab.world.pins.network, lambda: fetch(str(lab.plain.address), 8002, patience=SILENCE_S))
        assert answer.startswith("refused")
        assert fetch(str(lab.plain.address), 8002) == lab.plain.nameserver, "it does listen"
    finally:
        silence(guest)


def test_a_forged_source_is_dropped(lab: Lab) -> None:
    inside = lab.plain.network_namespace
    forged = str(lab.allowed.address)

    def forge() -> None:
        with Netlink() as guest:
            guest.add_address(socket.if_nametoindex(GUEST_LINK), ipaddress.IPv4Interface(f"{forged}/32"))
        ask(PUBLIC, 7777, "forged", source=forged, patience=SILENCE_S)
        ask(PUBLIC, 7777, "honest", source=str(lab.plain.address))

    within(inside, forge)
    assert lab.world.heard.count("honest") == 1
    assert lab.world.heard.count("forged") == 0


def test_names_are_asked_through_the_gateway_and_only_there(lab: Lab) -> None:
    for slot in (lab.plain, lab.greedy):
        gateway = str(slot.nameserver)
        assert within(slot.network_namespace, lambda to=gateway: ask(to, 53, "name")) == "answer to name"
        assert within(slot.network_namespace, lambda to=gateway: fetch(to, 53)) == "10.99.0.254"
    assert within(lab.plain.network_namespace, lambda: ask(PRIVATE, 53, "name", patience=SILENCE_S)) is None
    assert within(lab.plain.network_namespace, lambda: fetch(PRIVATE, 53, patience=SILENCE_S)).startswith("refused")


def test_there_is_no_ipv6_inside(lab: Lab) -> None:
    path = Path("/proc/thread-self/net/if_inet6")
    assert within(lab.plain.network_namespace, path.read_text) == ""


def test_an_allowance_that_is_taken_back_ends_open_connections_too(lab: Lab) -> None:
    def converse() -> tuple[bytes, bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect((PRIVATE, 53))
            client.send(b"one")
            before = client.recv(100)
            allow(lab.firewall, lab.allowed)
            client.settimeout(SILENCE_S)
            try:
                client.send(b"two")
                return before, client.recv(100)
            except OSError:
                return before, b""

    try:
        assert within(lab.allowed.network_namespace, converse) == (b"answer to one", b"")
    finally:
        allow(lab.firewall, lab.allowed, "10.99.0.0/24")
    assert within(lab.allowed.network_namespace, lambda: fetch(PRIVATE, 80)) == "10.99.0.254"


def test_one_sandbox_cannot_fill_the_hosts_table_of_connections(lab: Lab) -> None:
    counter = Path("/proc/sys/net/netfilter/nf_conntrack_count")

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for port in range(1, CONNECTIONS_MAX + 4096):
                with contextlib.suppress(OSError):  # what the host says when it refuses
                    client.sendto(b"", (FAR, port))

    before = int(counter.read_text())
    try:
        within(lab.plain.network_namespace, flood)
        assert int(counter.read_text()) - before < CONNECTIONS_MAX + 1000
        assert within(lab.plain.network_namespace, lambda: fetch(PUBLIC, 80)).startswith("refused")
        assert within(lab.allowed.network_namespace, lambda: fetch(PUBLIC, 80)) == HOST
    finally:
        subprocess.run(["nft", "flush", "set", "inet", f"skerry_{INSTANCE}", "connections"], check=True)


def test_opening_again_keeps_what_living_sandboxes_had(lab: Lab) -> None:
    again = Firewall(instance=INSTANCE, subnet=SUBNET, nameserver=PRIVATE)
    kept = [str(slot.address) for slot in (lab.plain, lab.allowed)]
    again.open(kept)
    try:
        assert within(lab.allowed.network_namespace, lambda: fetch(PRIVATE, 80)) == "10.99.0.254"
        assert within(lab.plain.network_namespace, lambda: fetch(PUBLIC, 80)) == HOST
        assert within(lab.greedy.network_namespace, lambda: fetch(PUBLIC, 80, patience=SILENCE_S)).startswith(
            "refused"
        ), "not kept"
    finally:
        again.admit([(f"sk{INSTANCE}-{lab.greedy.number:x}", str(lab.greedy.address))])
        again.close()


def test_the_table_goes_with_a_purge() -> None:
    firewall = Firewall(instance="b0b1", subnet="10.212.0.0/24", nameserver=None)
    firewall.open()
    listing = ["nft", "list", "table", "inet", "skerry_b0b1"]
    assert subprocess.run(listing, capture_output=True, check=False).returncode == 0
    firewall.purge()
    firewall.close()
    assert subprocess.run(listing, capture_output=True, check=False).returncode != 0


def test_the_table_of_a_skerry_that_is_no_more_goes_and_a_living_one_is_in_the_way(lab: Lab) -> None:
    dead = Firewall(instance="b0b2", subnet="10.212.0.0/24", nameserver=None)
    dead.open()
    dead.close()
    heir = Firewall(instance="b0b3", subnet="10.212.0.0/20", nameserver=None)
    heir.open()
    try:
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert "skerry_b0b2" not in tables
        assert f"skerry_{INSTANCE}" in tables
    finally:
        heir.purge()
        heir.close()
    rival = Firewall(instance="b0b4", subnet=SUBNET, nameserver=None)
    with pytest.raises(Failed, match="in use by another Skerry"):
        rival.open()
    rival.close()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("nameserver 192.0.2.1\n", "", "192.0.2.1"),
        ("nameserver 127.0.0.53\n", "nameserver 192.0.2.7\n", "192.0.2.7"),
        (
            "# nameserver 192.0.2.9\nnameserver ::1\nnameserver nonsense\nnameserver\nnameserver 192.0.2.2",
            "",
            "192.0.2.2",
        ),
        ("nameserver 127.0.0.1\n", "", None),
    ],
)
def test_the_first_nameserver_that_is_not_on_loopback(
    tmp_path: Path, first: str, second: str, expected: str | None
) -> None:
    files = (tmp_path / "one", tmp_path / "two", tmp_path / "missing")
    files[0].write_text(first)
    files[1].write_text(second)
    assert usable_nameserver(files) == expected
