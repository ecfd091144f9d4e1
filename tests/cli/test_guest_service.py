"""`skerry sandbox service …` as a user types it."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Skerry

SERVICE = ("sandbox", "service")


@pytest.fixture
def box(skerry: Skerry) -> str:
    assert skerry("create", "debian:12", "--name", "box").code == 0
    return "box"


def test_add_see_act_and_remove(skerry: Skerry, box: str) -> None:
    policy = ("--restart", "on-failure", "-e", "A=1", "--health-http", "/health", "--health-interval", "5s")
    options = ("-p", "8080", "--needs", "db", *policy)
    assert skerry(*SERVICE, "add", "box", "db", "--", "postgres", "-D", "/srv").code == 0
    added = skerry(*SERVICE, "add", "box", "web", *options, "--", "/srv/web", "--port", "8080")
    assert added.out == "service web of box is declared\n"
    [db, web] = skerry(*SERVICE, "list", "box", "--json").json
    assert db["spec"]["command"] == ["postgres", "-D", "/srv"]
    assert web["spec"]["command"] == ["/srv/web", "--port", "8080"]
    assert (web["spec"]["port"], web["spec"]["needs"], web["spec"]["env"]) == (8080, ["db"], {"A": "1"})
    assert (web["spec"]["restart"], web["spec"]["health"]["http"]) == ("on-failure", "/health")
    assert web["spec"]["health"]["interval"] == 5
    header, first, _ = skerry(*SERVICE, "ls", "box").out.splitlines()
    assert header.split()[:3] == ["NAME", "STATE", "PORT"]
    assert first.split()[:2] == ["db", "healthy"]
    assert skerry(*SERVICE, "stop", "box", "web").out == "web is stopped\n"
    assert "db healthy, web stopped on 8080" in skerry("inspect", "box").out
    assert "db:healthy web:stopped" in skerry("ps").out
    assert skerry(*SERVICE, "restart", "box", "web").out == "web is starting\n"
    assert skerry(*SERVICE, "logs", "box", "web").out == "web says so\n"
    assert skerry(*SERVICE, "rm", "box", "web").out == "service web of box is taken away\n"
    assert skerry(*SERVICE, "rm", "box", "web").code == 3


def test_health_by_what_was_given(skerry: Skerry, box: str) -> None:
    def health(*options: str) -> dict[str, object] | None:
        assert skerry(*SERVICE, "add", "box", "web", "-p", "80", *options, "--", "run").code == 0
        return skerry(*SERVICE, "list", "box", "--json").json[0]["spec"]["health"]

    assert health() is None
    by_command = health("--health-command", "test -e /ready", "--health-restart")
    assert by_command is not None
    assert (by_command["command"], by_command["restart"]) == (["/bin/sh", "-c", "test -e /ready"], True)
    by_port = health("--health-retries", "9")
    assert by_port is not None
    assert (by_port["tcp"], by_port["retries"]) == (True, 9)
