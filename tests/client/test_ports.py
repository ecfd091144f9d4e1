"""Ports as text, and what the client repeats of the model."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.client import port_socket
from skerry.client.calls.ports import forward_from_text, host_port_from_text, port_from_text, text_of
from skerry.errors import Invalid, NotFound
from skerry.model import stream
from skerry.model.port import Protocol, PublishedPort

numbers = st.integers(1, 65_535)
published = st.builds(
    PublishedPort,
    ip=st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)),
    host=st.one_of(st.none(), numbers),
    guest=numbers,
    protocol=st.sampled_from(Protocol),
)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("80", {"guest": 80}),
        ("8080:80", {"host": 8080, "guest": 80}),
        ("0:80", {"host": 0, "guest": 80}),
        ("8080:80/udp,auto", {"host": 8080, "guest": 80, "protocol": "udp", "auto_correct": True}),
        ("53:53/udp", {"host": 53, "guest": 53, "protocol": "udp"}),
        ("80/tcp", {"guest": 80, "protocol": "tcp"}),
        ("0.0.0.0:8080:80", {"ip": "0.0.0.0", "host": 8080, "guest": 80}),
        ("127.0.0.1::80", {"ip": "127.0.0.1", "guest": 80}),
        ("10.0.0.1:80", {"ip": "10.0.0.1", "guest": 80}),
        ("[::1]:8080:80/udp", {"ip": "::1", "host": 8080, "guest": 80, "protocol": "udp"}),
        ("[::]:80", {"ip": "::", "guest": 80}),
    ],
)
def test_a_port_in_dockers_words(text: str, fields: dict[str, object]) -> None:
    assert port_from_text(text) == fields
    PublishedPort.model_validate(fields)


NO_PORTS = """
x 80: :80 80:x 1:2:3 0 80:0 70000:80 80:70000 80/sctp ::1:80:80 [::1]80 -1:80 8080:80/udp/tcp 127.0.0.1: 127.0.0.1::1:2
80,x 80, ,auto 80,auto,auto
１:80
"""


@pytest.mark.parametrize("text", ["", "80 ", *NO_PORTS.split()])
def test_what_is_no_port_is_told_what_one_is(text: str) -> None:
    with pytest.raises(Invalid, match="expected") as found:
        port_from_text(text)
    assert found.value.field == "ports"


@given(published)
def test_what_is_shown_can_be_typed(port: PublishedPort) -> None:
    assert PublishedPort.model_validate(port_from_text(text_of(port.model_dump(mode="json")))) == port


@given(st.text("0123456789.:[]/udpt", max_size=24))
def test_every_text_is_a_port_or_refused_in_words(text: str) -> None:
    for read in (port_from_text, host_port_from_text, forward_from_text):
        with suppress(Invalid):
            read(text)


def test_the_side_of_the_machine_names_a_published_port() -> None:
    assert host_port_from_text("8080") == {"host": 8080}
    assert host_port_from_text("0.0.0.0:53/udp") == {"ip": "0.0.0.0", "host": 53, "protocol": "udp"}
    for text in ("8080:80", "1:2", "x", "", "[::1]:"):
        with pytest.raises(Invalid, match="the port of the machine"):
            host_port_from_text(text)


def test_forwards() -> None:
    assert forward_from_text("5432") == (None, 5432)
    assert forward_from_text("15432:5432") == (15432, 5432)
    assert forward_from_text("0:80") == (0, 80)
    for text in ("0", "80:0", "a:80", "80:", "1:2:3", ""):
        with pytest.raises(Invalid):
            forward_from_text(text)


def test_words_of_a_connection_are_the_models() -> None:
    assert (port_socket.READY, port_socket.END) == (stream.READY, stream.END)
    port_socket.refuse_all_but_ready(stream.READY)
    with pytest.raises(NotFound, match="no such"):
        port_socket.refuse_all_but_ready('{"error": {"code": "not_found", "message": "no such"}}')
