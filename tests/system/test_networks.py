"""Three sandboxes on two private networks: who reaches whom, by address and by name, whatever happens meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from skerry import Client, Sandbox
from skerry.errors import InUse
from tests.server import Server
from tests.system.conftest import IMAGE

pytestmark = pytest.mark.system

SERVE = (
    "use IO::Socket::INET; $SIG{TERM}=sub{exit};"
    "$s=IO::Socket::INET->new(Listen=>9,LocalPort=>8000,ReuseAddr=>1) or die;"
    "while($c=$s->accept){print $c $c->peerhost; close $c}"
)
DB, WEB, CACHE = "10.187.0.5", "10.187.0.6", "10.188.0.7"


@dataclass
class Lab:
    server: Server
    client: Client
    db: Sandbox
    web: Sandbox
    """In both."""
    cache: Sandbox
    """Has nothing but an internal network."""


@pytest.fixture(scope="module")
def lab(server: Server, client: Client) -> Iterator[Lab]:
    client.networks.create("back", "10.187.0.0/24")
    client.networks.create("front", "10.188.0.0/24", internal=True)
    boxes = [
        client.sandboxes.create(IMAGE, name="db", networks=[f"back:{DB}"], command=["perl", "-e", SERVE]),
        client.sandboxes.create(IMAGE, name="web", networks=[f"back:{WEB}", "front"], command=["perl", "-e", SERVE]),
        client.sandboxes.create(
            IMAGE,
            name="cache",
            hostname="store",
            networks=[f"front:{CACHE}"],
            network=False,
            command=["perl", "-e", SERVE],
        ),
    ]
    yield Lab(server, client, *boxes)
    for box in boxes:
        box.delete()
    for network in ("back", "front"):
        client.networks.delete(network)


def reach(box: Sandbox, to: str, patience_s: float = 10.0) -> str:
    """The address by which `to` knows the box; "" where it is not reached, which the kernel says only so often."""
    ask = f"bash -c 'exec 3<>/dev/tcp/{to}/8000 && head -c 20 <&3' 2>/dev/null"
    return box.commands.run(f"timeout {patience_s} {ask}").stdout


def refuses(box: Sandbox, to: str) -> bool:
    return reach(box, to, 0.4) == ""


def found(box: Sandbox, name: str) -> str:
    return box.commands.run(f"getent ahostsv4 {name} | head -1 | cut -d' ' -f1").stdout.strip()


def all_is_as_joined(lab: Lab) -> None:
    # Its program may be about to listen again.
    deadline_s = time.monotonic() + 30
    while reach(lab.web, "db") != WEB or reach(lab.web, "cache") == "":
        assert time.monotonic() < deadline_s, (reach(lab.web, "db"), reach(lab.web, "cache"))
    assert (reach(lab.db, "web.back"), reach(lab.web, "db.back"), reach(lab.web, CACHE)) == (DB, WEB, front_of(lab.web))
    assert reach(lab.cache, "web.front") == CACHE
    for box, address in ((lab.db, CACHE), (lab.db, front_of(lab.web)), (lab.cache, DB), (lab.cache, WEB)):
        assert refuses(box, address)


def front_of(box: Sandbox) -> str:
    return next(each.address for each in box.info().memberships if each.name == "front")


def settled(box: Sandbox, networks: list[str]) -> None:
    box.update(networks=networks)
    deadline_s = time.monotonic() + 30
    while not box.info().applied:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_members_reach_each_other_and_nobody_else_does(lab: Lab) -> None:
    all_is_as_joined(lab)
    assert [(each.name, each.address) for each in lab.client.networks.get("back").members] == [
        ("db", DB),
        ("web", WEB),
    ]


def test_names_lead_to_members_and_are_told_to_members_only(lab: Lab) -> None:
    assert (found(lab.web, "db"), found(lab.web, "db.back"), found(lab.web, "cache")) == (DB, DB, CACHE)
    assert (found(lab.web, "store"), found(lab.web, "store.front")) == (CACHE, CACHE), "by its hostname too"
    # Its own name leads it to where the others find it, which it may tell them.
    assert lab.cache.commands.run("hostname; tail -1 /etc/hosts").stdout.split() == ["store", CACHE, "store"]
    assert found(lab.web, "web.back") == WEB, "its own, to tell others"
    assert (found(lab.web, "db.front"), found(lab.db, "cache.front"), found(lab.db, "cache")) == ("", "", "")
    assert (found(lab.cache, "web"), found(lab.cache, "db")) == (front_of(lab.web), "")
    with lab.client.sandboxes.create(IMAGE) as stranger:
        assert (found(stranger, "db"), found(stranger, "db.back")) == ("", "")
        assert refuses(stranger, DB)


def test_a_policy_is_about_outside_and_not_about_members(lab: Lab) -> None:
    lab.db.policy.set(default="deny")
    try:
        assert (found(lab.db, "web"), reach(lab.db, "web")) == (WEB, DB)
        assert found(lab.db, "other.test") == ""
        assert {line.name for line in lab.db.policy.log()} == {"other.test"}
    finally:
        lab.db.policy.set()


def test_who_has_only_internal_networks_has_no_way_outside(lab: Lab) -> None:
    file = "/.skerry/policy/network.json"
    assert json.loads(lab.cache.commands.run(["cat", file]).stdout)["default"] == "deny"
    assert json.loads(lab.web.commands.run(["cat", file]).stdout)["default"] == "allow"
    with lab.client.sandboxes.create(IMAGE, networks=["front"]) as box:
        assert json.loads(box.commands.run(["cat", file]).stdout)["default"] == "deny"
        assert found(box, "cache") == CACHE


def test_an_address_of_anothers_cannot_be_used_from_inside(lab: Lab) -> None:
    bind = (
        "use IO::Socket::INET; print IO::Socket::INET->new(LocalAddr=>$ARGV[0],PeerAddr=>$ARGV[1],PeerPort=>8000,"
        "Timeout=>$ARGV[2]) ? 'reached' : 'refused'"
    )
    for local, peer, patience_s, said in (
        (DB, WEB, 1, "refused"),
        (CACHE, WEB, 1, "refused"),
        (CACHE, front_of(lab.web), 10, "reached"),
    ):
        got = lab.cache.commands.run(["perl", "-e", bind, local, peer, str(patience_s)]).stdout
        assert got == said, (local, peer)


def test_one_joins_and_leaves_while_it_runs(lab: Lab) -> None:
    settled(lab.db, [f"back:{DB}", f"front:{DB.replace('187', '188')}"])
    assert reach(lab.db, "cache") == "10.188.0.5"
    assert found(lab.cache, "db") == "10.188.0.5"
    settled(lab.db, ["back"])
    all_is_as_joined(lab)
    assert found(lab.cache, "db") == ""


def test_a_network_with_members_stays(lab: Lab) -> None:
    with pytest.raises(InUse, match=r"network back has members \(db, web\)"):
        lab.client.networks.delete("back")
    with pytest.raises(InUse, match=f"{DB} is sandbox db's"):
        lab.client.sandboxes.create(IMAGE, networks=[f"back:{DB}"])


def test_all_stays_while_the_agent_is_away_and_when_it_is_back(lab: Lab) -> None:
    stay = lab.web.commands.start(["bash", "-c", f"exec 3<>/dev/tcp/{DB}/8000; sleep 60"])
    lab.server.kill("agent")
    lab.server.start("agent")
    all_is_as_joined(lab)
    settled(lab.web, [f"back:{WEB}"])
    assert refuses(lab.web, CACHE), "also what an earlier agent had opened is closed"
    settled(lab.web, [f"back:{WEB}", "front"])
    stay.kill()
    all_is_as_joined(lab)


def test_it_is_in_them_again_after_a_stop_a_restore_and_sleep(lab: Lab) -> None:
    lab.db.checkpoint()
    lab.db.restore("v1")
    assert reach(lab.db, "web") == DB
    lab.db.stop(grace_s=0)
    assert found(lab.web, "db") == ""
    assert refuses(lab.web, DB)
    lab.db.start()
    assert reach(lab.db, "web") == DB
    for cold in (False, True):
        lab.db.sleep(cold=cold, force=True)
        assert found(lab.web, "db") == DB, "its name is its own while it sleeps"
        lab.db.wake()
        assert reach(lab.db, "web") == DB
    all_is_as_joined(lab)


def test_a_fork_joins_by_an_address_of_its_own(lab: Lab) -> None:
    [fork] = lab.db.fork()
    try:
        address = fork.info().memberships[0].address
        assert address not in (DB, WEB)
        assert found(lab.web, fork.name) == address
        assert reach(fork, "web") == address
    finally:
        fork.delete()
    assert found(lab.web, fork.name) == ""
