"""`skerry url` as a user types it."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Skerry


@pytest.fixture
def web(skerry: Skerry) -> str:
    assert skerry("create", "debian:12", "--name", "web").code == 0
    return "web"


def test_where_a_port_is(skerry: Skerry, web: str) -> None:
    assert skerry("url", "web", "8080").out == "http://web--8080.localhost:7080/\n"
    assert skerry("url", "web").out == "http://web--PORT.localhost:7080/\n"
    assert skerry("url", "web", "8080", "--json").json["public"] is False
    assert skerry("url", "web", "0").code == 2


def test_a_link(skerry: Skerry, web: str) -> None:
    told = skerry("url", "web", "8080", "--expires", "1h")
    assert told.out == "http://web--8080.localhost:7080/?skerry_token=signed\n"
    assert told.err.startswith("opens until ")
    refused = skerry("url", "web", "--expires", "1h")
    assert (refused.code, "--expires needs a PORT" in refused.err) == (2, True)


def test_public_and_private(skerry: Skerry, web: str) -> None:
    assert skerry("url", "web", "--public").err == "public: everybody may open it\n"
    assert "(public)" in skerry("inspect", "web").out
    assert skerry("url", "web", "80", "--private").out == "http://web--80.localhost:7080/\n"
    assert "(private)" in skerry("inspect", "web").out
    assert skerry("create", "debian:12", "--name", "open", "--public").code == 0
    assert "(public)" in skerry("inspect", "open").out
