"""Which ports of a machine are in each other's way, and how free ones are chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.errors import LimitReached
from skerry.model.port import CHOSEN_FIRST, CHOSEN_LAST, HeldPort, Protocol, PublishedPort, choose, clash, first_clash
from skerry.model.sandbox import SandboxSpec

IPS = ("127.0.0.1", "10.0.0.1", "0.0.0.0", "::1", "::")
ports = st.builds(
    PublishedPort,
    ip=st.sampled_from(IPS),
    host=st.one_of(st.none(), st.integers(0, 3), st.integers(CHOSEN_FIRST, CHOSEN_FIRST + 5)),
    guest=st.integers(1, 65_535),
    protocol=st.sampled_from(Protocol),
)


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "::1", True),
        ("::", "0.0.0.0", False),  # ours never take the other family
        ("::1", "127.0.0.1", False),
    ],
)
def test_every_address_of_a_family_is_in_the_way_of_each(one: str, other: str, clashes: bool) -> None:
    left = PublishedPort(ip=one, host=80, guest=1)
    right = HeldPort(ip=other, host=80, protocol=Protocol.TCP)
    assert clash(left, right) is clashes
    assert not clash(left, right.model_copy(update={"protocol": Protocol.UDP}))
    assert not clash(left, right.model_copy(update={"host": 81}))


@given(ports, ports)
def test_being_in_the_way_is_mutual(one: PublishedPort, other: PublishedPort) -> None:
    assert clash(one, other) is clash(other, one)
    assert clash(one, one) is bool(one.host)


@given(st.lists(ports, max_size=8))
def test_the_first_clash_is_one_and_none_is_overlooked(several: list[PublishedPort]) -> None:
    found = first_clash(several)
    pairs = [(one, other) for at, one in enumerate(several) for other in several[at + 1 :] if clash(one, other)]
    assert (found is None) == (not pairs)
    assert found is None or clash(*found)


@given(st.lists(ports, max_size=8), st.lists(ports, max_size=8), st.integers(0, 2**32))
def test_chosen_ports_are_in_nobodys_way(wanted: list[PublishedPort], held: list[PublishedPort], draw: int) -> None:
    made = choose(wanted, held, draw)
    assert made == choose(wanted, held, draw)
    for was, port in zip(wanted, made, strict=True):
        assert port.model_copy(update={"host": was.host}) == was
        if was.host:
            assert port.host == was.host
        else:
            assert CHOSEN_FIRST <= (port.host or 0) <= CHOSEN_LAST
            others = [each for each in (*held, *made) if each is not port]
            assert not any(clash(port, other) for other in others)


def test_when_none_is_free_it_says_so() -> None:
    held = [HeldPort(ip="10.0.0.1", host=port, protocol=Protocol.UDP) for port in range(CHOSEN_FIRST, CHOSEN_LAST + 1)]
    assert choose([PublishedPort(guest=80)], held[1:], 7)[0].host == CHOSEN_FIRST
    with pytest.raises(LimitReached, match="no port of 20000 to 29999 is free"):
        choose([PublishedPort(guest=80)], held, 7)


@pytest.mark.parametrize(
    "bad", [{"guest": 0}, {"guest": 65_536}, {"guest": 80, "host": -1}, {"guest": 80, "ip": "localhost"}, {"host": 80}]
)
def test_what_is_no_port_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PublishedPort.model_validate(bad)


def test_a_spec_does_not_publish_one_port_twice() -> None:
    twice = [{"guest": 80, "host": 8080}, {"guest": 81, "host": 8080, "ip": "0.0.0.0"}]
    with pytest.raises(ValidationError, match=r"127\.0\.0\.1:8080 and 0\.0\.0\.0:8080 are the same port"):
        SandboxSpec.model_validate({"image": "debian:12", "ports": twice})
    with_udp = [twice[0], {**twice[1], "protocol": "udp"}]
    assert len(SandboxSpec.model_validate({"image": "debian:12", "ports": with_udp}).ports) == 2
