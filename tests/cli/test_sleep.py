"""`skerry sleep`, `wake` and `lease` as a user types them."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Skerry


@pytest.fixture
def box(skerry: Skerry) -> str:
    assert skerry("create", "debian:12", "--name", "box", "--idle", "30s", "--cold-after", "never").code == 0
    return "box"


def test_sleep_and_wake(skerry: Skerry, box: str) -> None:
    assert skerry("sleep", "box", "--cold").out == "box asleep\n"
    assert "asleep" in skerry("ps").out
    assert "asleep:      cold since" in skerry("inspect", "box").out
    assert skerry("wake", "box").out == "box awake\n"
    facts = dict(line.split(":", 1) for line in skerry("inspect", "box").out.splitlines())
    assert (facts["idle"].strip(), facts["cold after"].strip()) == ("30s", "never")
    assert facts["last active"].endswith("(exec)")


def test_a_lease_keeps_it_awake_until_it_is_ended(skerry: Skerry, box: str) -> None:
    made = skerry("lease", "create", "box", "--for", "2h", "--note", "nightly", "--json").json
    assert made["note"] == "nightly"
    refused = skerry("sleep", "box")
    assert (refused.code, refused.err) == (4, "error: it is kept awake by a lease\n")
    assert skerry("sleep", "box", "--force").code == 0
    assert made["id"] in skerry("lease", "list", "box").out
    assert skerry("lease", "end", "box", made["id"]).out == f"{made['id']} ended\n"
    assert skerry("lease", "end", "box", made["id"]).code == 3


def test_changing_the_idle_time_of_a_running_one(skerry: Skerry, box: str) -> None:
    assert skerry("update", "box", "--idle", "never").code == 0
    assert skerry("inspect", "box", "--json").json["spec"]["idle"] == "never"


def test_words_of_others_are_understood(skerry: Skerry) -> None:
    ended = skerry("pause", "box")
    assert ended.code == 2
    assert "skerry sleep BOX" in ended.err
