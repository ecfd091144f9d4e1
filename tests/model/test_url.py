"""Host names and signed links: what is written is read back, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.model.fields import NAME_PATTERN
from skerry.model.url import LABEL_CHARACTERS_MAX, SECRET_BYTES, is_signed, label, read_host, sign

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)
PORTS = st.integers(1, 65_535)
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
BOX = "sb-0123456789ab"


@given(NAMES, PORTS)
def test_a_host_names_its_sandbox_and_port(name: str, port: int) -> None:
    first = label(name, BOX, port)
    assert len(first) <= LABEL_CHARACTERS_MAX
    wanted = (name if len(f"{name}--{port}") <= LABEL_CHARACTERS_MAX else BOX, port)
    for host in (f"{first}.localhost", f"{first}.localhost:7080", f"{first.upper()}.LocalHost."):
        assert read_host(host, "localhost") == wanted
    assert read_host(f"{first}.example.com", "localhost") is None


@given(st.text(max_size=80))
def test_any_host_is_read_or_not(host: str) -> None:
    found = read_host(host + ".localhost", "localhost")
    assert found is None or (found[0] and 1 <= found[1] <= 65_535)


@given(SECRETS, PORTS, st.integers(1, 10**11))
def test_a_link_opens_one_port_of_one_sandbox_for_a_while(secret: bytes, port: int, expires: int) -> None:
    token = sign(secret, BOX, port, expires)
    assert is_signed(secret, token, BOX, port, expires - 1) == expires
    assert is_signed(secret, token, BOX, port, expires) is None
    assert is_signed(secret, token, BOX, port + 1, 0) is None
    assert is_signed(secret, token, "sb-ba9876543210", port, 0) is None
    assert is_signed(bytes(SECRET_BYTES - 1) + b"x", token, BOX, port, 0) is None
    assert is_signed(secret, f"{expires + 1}.{token.partition('.')[2]}", BOX, port, 0) is None


@given(SECRETS, st.text(max_size=100))
def test_what_we_did_not_write_is_no_link(secret: bytes, token: str) -> None:
    assert is_signed(secret, token, BOX, 80, 0) is None
