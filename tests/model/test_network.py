"""Private networks: which ranges and addresses may be asked for, and how free ones are chosen."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.errors import LimitReached
from skerry.model.network import JOINS_MAX, Join, Membership, NetworkRequest, choose_address, is_host_of, overlapping
from skerry.model.order import Order
from skerry.model.policy import Action, Policy
from skerry.model.sandbox import Network, SandboxSpec, SandboxUpdate

SMALL = "10.77.0.0/29"
HOSTS = [str(address) for address in ipaddress.IPv4Network(SMALL).hosts()]
subnets = st.builds(
    lambda number, prefix: str(ipaddress.IPv4Network((number >> (32 - prefix) << (32 - prefix), prefix))),
    st.integers(int(ipaddress.IPv4Address("10.0.0.0")), int(ipaddress.IPv4Address("10.0.255.255"))),
    st.integers(16, 29),
)


@given(st.sets(st.sampled_from(HOSTS)))
def test_a_chosen_address_is_free_a_members_and_the_last(taken: set[str]) -> None:
    if len(taken) == len(HOSTS):
        with pytest.raises(LimitReached, match=r"every address of 10\.77\.0\.0/29 is taken"):
            choose_address(SMALL, taken)
        return
    chosen = choose_address(SMALL, taken)
    assert chosen == [each for each in HOSTS if each not in taken][-1]
    assert is_host_of(chosen, SMALL)


@given(subnets, subnets)
def test_overlapping_is_mutual_and_means_a_shared_address(one: str, other: str) -> None:
    first, second = (ipaddress.IPv4Network(each) for each in (one, other))
    shared = max(first[0], second[0]) <= min(first[-1], second[-1])
    assert (overlapping(one, [other]) is not None) is shared
    assert (overlapping(one, [other]) is None) is (overlapping(other, [one]) is None)


@given(subnets, st.integers(0, 2**32 - 1))
def test_members_addresses_are_all_but_the_first_and_the_last(subnet: str, number: int) -> None:
    network, address = ipaddress.IPv4Network(subnet), ipaddress.IPv4Address(number)
    assert is_host_of(str(address), subnet) is (
        address in network and address not in (network.network_address, network.broadcast_address)
    )
    assert not is_host_of(str(network.network_address), subnet)
    assert not is_host_of(str(network.broadcast_address), subnet)


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        ("10.77.0.5/24", "such as 10.77.0.0/24"),
        ("10.0.0.0/8", "between /16 and /29"),
        ("10.77.0.0/30", "between /16 and /29"),
        ("8.8.8.0/24", "somebody"),
        ("127.0.0.0/16", "somebody"),
        ("169.254.0.0/16", "somebody"),
        ("224.0.0.0/24", "somebody"),
        ("fd00::/64", "IPv4 range"),
        ("backend", "IPv4 range"),
        ("10.77.0.0", "between /16 and /29"),
        ("10.77.0.0/33", "IPv4 range"),
    ],
)
def test_ranges_that_are_no_network(subnet: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        NetworkRequest(name="backend", subnet=subnet)


def test_a_network_is_joined_once_and_not_too_many() -> None:
    twice = [Join(name="a"), Join(name="b"), Join(name="a", address="10.77.0.5")]
    for kind in (
        lambda joins: SandboxSpec(image="debian:12", networks=joins),
        lambda joins: SandboxUpdate(networks=joins),
    ):
        with pytest.raises(ValidationError, match=r"networks\[2\].name: a is joined already"):
            kind(twice)
        with pytest.raises(ValidationError, match="at most 16"):
            kind([Join(name=f"n{number}") for number in range(JOINS_MAX + 1)])


OPEN = Policy()
NOTHING = Policy(default=Action.DENY)


@pytest.mark.parametrize(
    ("enabled", "kinds", "cable", "policy"),
    [
        (True, [], True, OPEN),
        (True, ["nat"], True, OPEN),
        (True, ["internal", "nat"], True, OPEN),
        (True, ["internal"], True, NOTHING),
        (True, ["internal", "internal"], True, NOTHING),
        (False, ["nat"], True, NOTHING),
        (False, ["internal"], True, NOTHING),
        (False, [], False, NOTHING),
    ],
)
def test_who_has_a_way_outside(enabled: bool, kinds: list[str], cable: bool, policy: Policy) -> None:
    joined = [
        Membership(name=f"n{at}", address=f"10.77.{at}.5", subnet=f"10.77.{at}.0/24", internal=kind == "internal")
        for at, kind in enumerate(kinds)
    ]
    order = Order(
        sandbox_id="sb-1",
        generation=1,
        name="one",
        spec=SandboxSpec(image="debian:12", network=Network(enabled=enabled)),
        image_digest="sha256:1",
        networks=joined,
    )
    assert (order.has_cable, order.policy) == (cable, policy)
