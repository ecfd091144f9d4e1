"""Egress by name, attacked from inside a real sandbox: real nameserver, real web servers, an internet of our own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from skerry import Client, Sandbox
from skerry.agent.egress.egress import QUERIES_AT_ONCE_MAX
from skerry.model.policy import Action, Policy, Rule
from skerry.runtime.container.syscalls import unshare_mount_namespace
from tests.agent.internet import DOH, Internet, internet_in
from tests.agent.world import FAR, METADATA, PRIVATE, PRIVATE_OTHER, PUBLIC
from tests.server import Server, rootfs_archive
from tests.system.conftest import IMAGE, connect, make_server

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SUBNET = "10.229.0.0/20"
RESOLVER = "10.229.15.254"
PROBE = r"""
use IO::Socket::INET; use IO::Select;
my ($proto, $to, $port, $hex, $patience) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr=>$to, PeerPort=>$port, Proto=>$proto, Timeout=>$patience)
    or do { print "refused: $!"; exit };
my $data = pack("H*", $hex);
$data = pack("n", length $data) . $data if $proto eq "tcp" && length $data && $port != 8080;
defined(syswrite($s, $data)) or do { print "refused: $!"; exit } if length $data;
IO::Select->new($s)->can_read($patience) or do { print "silence"; exit };
my $n = sysread($s, my $got, 65535); defined($n) or do { print "refused: $!"; exit };
$got = substr($got, 2) if $proto eq "tcp" && length $data && $port != 8080;
print unpack("H*", $got);
"""
"""What the sandbox has is Perl: one question over UDP or TCP, and what came back, in hex or in words."""
GET = b"GET / HTTP/1.0\r\n\r\n"


@dataclass
class Lab:
    server: Server
    client: Client
    internet: Internet
    box: Sandbox

    @property
    def gateway(self) -> str:
        return gateway_of(self.box.info().address)

    def rule(self, *allow: str, default: str = "deny", deny: tuple[str, ...] = ()) -> None:
        self.box.policy.set(default=default, allow=allow, deny=deny)

    def reaches(self, address: str, port: int = 8080, *, proto: str = "tcp", box: Sandbox | None = None) -> bool:
        said = probe(box or self.box, proto, address, port, GET if port == 8080 else b"hello")
        return bool(said) and not said.startswith(("refused", "silence"))

    def ask(
        self, name: str, kind: str = "A", *, server: str | None = None, proto: str = "udp"
    ) -> dns.message.Message | str:
        query = dns.message.make_query(name, kind)
        said = probe(self.box, proto, server or self.gateway, 53, query.to_wire())
        if said.startswith(("refused", "silence")):
            return said
        answer = dns.message.from_wire(bytes.fromhex(said))
        assert answer.id == query.id
        return answer

    def resolve(self, name: str) -> list[str] | str:
        """Addresses, or the code of the answer in words."""
        answer = self.ask(name)
        assert not isinstance(answer, str), answer
        if answer.rcode() != dns.rcode.NOERROR:
            return dns.rcode.to_text(answer.rcode())
        return [str(record) for rrset in answer.answer for record in rrset]


def gateway_of(address: str | None) -> str:
    assert address is not None
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) - 1}"


def probe(box: Sandbox, proto: str, address: str, port: int, data: bytes) -> str:
    return box.commands.run(["perl", "-e", PROBE, proto, address, str(port), data.hex(), "10"]).stdout


def until(happened: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    unshare_mount_namespace()
    server = make_server(SUBNET, nameserver=PRIVATE_OTHER)
    archive = rootfs_archive()  # while the internet is the machine's own
    with internet_in(tmp_path_factory.mktemp("internet") / "world") as internet:
        try:
            server.start()
            with connect(server) as client:
                client.images.pull(f"oci-archive:{archive}", name=IMAGE)
                box = client.sandboxes.create(IMAGE, name="box")
                yield Lab(server, client, internet, box)
        finally:
            server.remove()


@pytest.fixture(autouse=True)
def closed(lab: Lab) -> None:
    lab.rule("allowed.test", "*.wild.test", "chain.test")


# What it is for


def test_an_allowed_name_is_found_and_reached_and_no_other(lab: Lab) -> None:
    assert lab.resolve("allowed.test") == [PUBLIC]
    assert lab.reaches(PUBLIC)
    assert lab.resolve("other.test") == "REFUSED"
    assert lab.resolve("nowhere.wild.test") == [FAR]
    assert lab.resolve("wild.test") == "REFUSED"
    assert lab.box.commands.run("getent ahostsv4 allowed.test").stdout.startswith(PUBLIC)
    assert not lab.box.commands.run("getent ahosts other.test").ok


def test_without_a_policy_it_is_as_it_was_and_names_go_straight_to_the_nameserver(lab: Lab) -> None:
    with lab.client.sandboxes.create(IMAGE) as plain:
        assert lab.reaches(PUBLIC, box=plain)
        address = plain.info().address
        lab.server.kill("agent")
        try:
            assert lab.internet.within_box(address, lambda: lab.internet.asks(gateway_of(address), "allowed.test"))
        finally:
            lab.server.start("agent")
        assert not any(plain.policy.log())


def test_a_name_that_leads_elsewhere_is_judged_as_it_was_asked(lab: Lab) -> None:
    answer = lab.ask("chain.test")
    assert not isinstance(answer, str)
    assert [rrset.name.to_text() for rrset in answer.answer] == ["chain.test."]
    assert lab.resolve("chain.test") == [FAR]
    assert lab.reaches(FAR)
    assert lab.resolve("behind.other.test") == "REFUSED"


# Ways around it


@pytest.mark.parametrize("name", ["rebind", "loop", "metadata", "here", "stray"])
def test_names_that_lead_to_private_addresses_are_refused(lab: Lab, name: str) -> None:
    assert lab.resolve(f"{name}.wild.test") == "REFUSED"
    line = lab.box.policy.log(tail=1)[0]
    assert (line.name, line.action) == (f"{name}.wild.test", Action.DENY)


def test_of_mixed_answers_only_the_public_addresses_are_told_and_opened(lab: Lab) -> None:
    assert lab.resolve("mixed.wild.test") == [PUBLIC]
    assert not lab.reaches(PRIVATE)


def test_a_private_address_is_reached_by_name_where_a_range_allows_it(lab: Lab) -> None:
    lab.rule("*.wild.test", "10.99.0.0/24")
    assert lab.resolve("rebind.wild.test") == [PRIVATE]
    assert lab.reaches(PRIVATE)
    assert not lab.reaches(PRIVATE_OTHER)


@pytest.mark.parametrize("address", [PUBLIC, FAR, PRIVATE, PRIVATE_OTHER, METADATA, DOH])
def test_addresses_without_a_name_are_not_reached(lab: Lab, address: str) -> None:
    lab.rule("allowed.test")
    assert not lab.reaches(address)


def test_a_wildcard_opens_only_what_a_name_led_to(lab: Lab) -> None:
    lab.rule("*.wild.test")
    assert lab.resolve("x.wild.test") == [FAR]
    assert lab.reaches(FAR)
    assert not lab.reaches(PUBLIC)


@pytest.mark.parametrize("default", ["deny", "allow"])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("server", [FAR, PRIVATE_OTHER, RESOLVER, METADATA])
def test_no_other_resolver_answers(lab: Lab, default: str, proto: str, server: str) -> None:
    lab.rule("allowed.test", "10.0.0.0/8", "198.51.100.0/24", default=default)
    answer = lab.ask("allowed.test", server=server, proto=proto)
    assert isinstance(answer, str), answer


def test_the_names_asked_by_tcp_are_judged_as_well(lab: Lab) -> None:
    refused, found = lab.ask("other.test", proto="tcp"), lab.ask("allowed.test", proto="tcp")
    assert not isinstance(refused, str)
    assert not isinstance(found, str)
    assert refused.rcode() == dns.rcode.REFUSED
    assert [str(record) for record in found.answer[0]] == [PUBLIC]


@pytest.mark.parametrize("default", ["deny", "allow"])
def test_other_ways_to_ask_and_http3_are_cut(lab: Lab, default: str) -> None:
    lab.rule("allowed.test", "192.88.99.0/24", default=default)
    assert lab.resolve("allowed.test") == [PUBLIC]
    assert lab.reaches(PUBLIC)
    assert not lab.reaches(PUBLIC, 853)
    assert not lab.reaches(PUBLIC, 853, proto="udp")
    assert not lab.reaches(PUBLIC, 443, proto="udp")
    assert not lab.reaches(DOH, 443)
    assert lab.resolve("dns.google") == "REFUSED"
    assert lab.resolve("use-application-dns.net") == "REFUSED"


def test_the_same_are_open_where_nothing_is_ruled(lab: Lab) -> None:
    """Else the test before would pass for want of anybody who answers."""
    lab.rule(default="allow")
    for port, proto in ((853, "tcp"), (853, "udp"), (443, "udp")):
        assert lab.reaches(PUBLIC, port, proto=proto), (port, proto)
    assert lab.reaches(DOH, 443)
    assert not isinstance(lab.ask("allowed.test", server=FAR), str)


def test_there_is_no_way_by_ipv6(lab: Lab) -> None:
    answer = lab.ask("six.wild.test", "AAAA")
    assert not isinstance(answer, str)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
    assert "six.wild.test AAAA" not in lab.internet.names.asked
    assert lab.box.commands.run("cat /proc/net/if_inet6").stdout == ""


@pytest.mark.parametrize("kind", ["TXT", "HTTPS", "MX", "NULL", "ANY"])
def test_only_addresses_are_looked_up_so_that_answers_carry_nothing_else(lab: Lab, kind: str) -> None:
    answer = lab.ask("text.wild.test", kind)
    assert not isinstance(answer, str)
    assert answer.answer == []
    assert f"text.wild.test {kind}" not in lab.internet.names.asked


def test_names_that_could_carry_data_out_are_refused_and_go_nowhere(lab: Lab) -> None:
    secret = "s" * 61
    assert lab.resolve(f"{secret}.wild.test") == "REFUSED"
    assert lab.resolve(".".join([*["d" * 30] * 4, "wild.test"])) == "REFUSED"
    assert not any(secret in asked for asked in lab.internet.names.asked)


def test_more_questions_than_are_allowed_are_not_answered(lab: Lab) -> None:
    query = dns.message.make_query("other.test", "A").to_wire().hex()
    flood = (
        "use IO::Socket::INET; $s=IO::Socket::INET->new(PeerAddr=>$ARGV[0],PeerPort=>53,Proto=>'udp');"
        "$d=pack('H*',$ARGV[1]); use IO::Select; $w=IO::Select->new($s); $n=0;"
        "for(1..$ARGV[2]){syswrite($s,$d); select(undef,undef,undef,0.01) unless $_ % 50;"
        "while($w->can_read(0)){sysread($s,$b,600);$n++}}"
        "while($w->can_read(0.3)){sysread($s,$b,600);$n++} print $n"
    )
    sent = QUERIES_AT_ONCE_MAX + 1000
    answered = int(lab.box.commands.run(["perl", "-e", flood, lab.gateway, query, str(sent)]).stdout)
    assert 0 < answered < sent
    assert any("too many questions" in line.why for line in lab.box.policy.log(tail=5))
    with lab.client.sandboxes.create(IMAGE, network={"default": "deny"}) as other:
        assert "NXDOMAIN" not in other.commands.run("getent ahosts other.test").stderr, "others are not slowed"
    time.sleep(1)


def test_neither_the_resolver_nor_the_policy_is_the_guests_to_change(lab: Lab) -> None:
    lab.rule("allowed.test", deny=("evil.test",))
    file = "/.skerry/policy/network.json"
    read = Policy.model_validate_json(lab.box.commands.run(["cat", file]).stdout)
    assert read == lab.box.policy.get()
    assert read.rules[1] == Rule(domain="evil.test", action=Action.DENY)
    for attempt in (f"echo '{{}}' > {file}", f"rm {file}", f"mount --bind /tmp {file}", "touch /.skerry/policy/x"):
        assert not lab.box.commands.run(attempt).ok, attempt
    lab.box.commands.run(f"echo nameserver {FAR} > /etc/resolv.conf; umount /etc/resolv.conf")
    assert isinstance(lab.ask("allowed.test", server=FAR), str)


# Changes


def talker(lab: Lab, address: str) -> None:
    """A connection from the box to an echo server, which notes in a file whether it still works."""
    code = (
        "use IO::Socket::INET; use IO::Select; $|=1;"
        "$s=IO::Socket::INET->new(PeerAddr=>$ARGV[0],PeerPort=>7,Proto=>'tcp',Timeout=>10) or die;"
        "$w=IO::Select->new($s);"
        "while(1){syswrite($s,'x') or last; $w->can_read(4) or last; sysread($s,$b,10) or last;"
        "print '.'; select(undef,undef,undef,0.05)}"
        "print 'cut'; sleep 100"
    )
    lab.box.commands.run("rm -f /tmp/said")
    lab.box.commands.start(["sh", "-c", 'exec perl -e "$1" "$2" > /tmp/said', "sh", code, address])
    until(lambda: said(lab).startswith("..."))


def said(lab: Lab) -> str:
    return lab.box.commands.run("cat /tmp/said").stdout


def goes_on(lab: Lab) -> bool:
    before = len(said(lab))
    until(lambda: len(said(lab)) > before)
    return "cut" not in said(lab)


def test_tightening_cuts_open_connections_and_leaves_those_still_allowed(lab: Lab) -> None:
    lab.resolve("allowed.test")
    talker(lab, PUBLIC)
    lab.rule("allowed.test", "chain.test")  # tighter: *.wild.test is gone
    assert goes_on(lab), "it is still allowed"
    lab.rule("allowed.test", "chain.test", "more.test")
    assert goes_on(lab), "looser"
    lab.rule("chain.test")
    until(lambda: "cut" in said(lab))
    assert not lab.reaches(PUBLIC)
    assert lab.resolve("allowed.test") == "REFUSED"


def test_a_first_policy_cuts_what_was_open_before_it(lab: Lab) -> None:
    lab.rule(default="allow")
    talker(lab, PUBLIC)
    lab.rule("chain.test")
    until(lambda: "cut" in said(lab))


def test_under_default_allow_a_denied_name_or_range_is_denied_and_the_rest_is_open(lab: Lab) -> None:
    lab.rule(default="allow", deny=("other.test", "*.wild.test", "198.51.100.0/24"))
    assert lab.resolve("allowed.test") == [PUBLIC]
    assert lab.resolve("other.test") == "REFUSED"
    assert lab.resolve("x.wild.test") == "REFUSED"
    assert lab.resolve("chain.test") == "REFUSED", "its address is denied"
    assert lab.reaches(PUBLIC)
    assert not lab.reaches(FAR)
    text = lab.ask("text.allowed.test", "TXT")
    assert not isinstance(text, str)
    assert text.rcode() == dns.rcode.NOERROR


def test_it_survives_sleep_restore_and_fork_and_a_fork_of_an_old_disk_gets_todays(lab: Lab) -> None:
    lab.rule(default="allow")
    loose = lab.box.checkpoint("before there was a policy")
    lab.rule("allowed.test")
    lab.box.sleep(cold=True)
    assert lab.resolve("other.test") == "REFUSED"
    lab.box.sleep()
    assert not lab.reaches(FAR)
    lab.box.restore(loose)
    assert (lab.resolve("allowed.test"), lab.resolve("other.test")) == ([PUBLIC], "REFUSED")
    (fork,) = lab.box.fork(checkpoint=loose)
    with fork:
        assert fork.policy.get() == lab.box.policy.get()
        assert not lab.reaches(PUBLIC, box=fork), "the parent's answers are not the fork's"
        assert not fork.commands.run("getent ahosts other.test").ok
        assert fork.commands.run("getent ahostsv4 allowed.test").ok
        assert lab.reaches(PUBLIC, box=fork)


# When the agent dies


def test_it_fails_closed_without_the_agent_and_goes_on_with_the_next(lab: Lab) -> None:
    assert lab.resolve("allowed.test") == [PUBLIC]
    talker(lab, PUBLIC)
    address = lab.box.info().address
    lines = len(lab.box.policy.log())
    lab.server.kill("agent")
    try:
        assert lab.internet.within_box(address, lambda: lab.internet.asks(gateway_of(address), "chain.test")) is None
        assert not lab.internet.within_box(address, lambda: lab.internet.fetches(FAR))
        assert lab.internet.within_box(address, lambda: lab.internet.fetches(PUBLIC)), "what was opened stays so"
    finally:
        lab.server.start("agent")
    until(lambda: goes_on(lab))
    assert lab.reaches(PUBLIC)
    assert lab.resolve("other.test") == "REFUSED"
    assert len(lab.box.policy.log()) > lines
    lab.rule("chain.test")
    until(lambda: "cut" in said(lab))
    assert not lab.reaches(PUBLIC), "of what an earlier agent opened no name is known, so it goes"


# The log


def test_the_log_tells_names_rules_and_addresses_and_a_draft_is_tried_on_it(lab: Lab) -> None:
    with lab.client.sandboxes.create(IMAGE, network={"observe": True}) as box:
        for name in ("allowed.test", "other.test", "rebind.wild.test"):
            box.commands.run(["getent", "ahostsv4", name])
        found = {line.name: line for line in box.policy.log()}
        assert {name: line.action for name, line in found.items()} == dict.fromkeys(found, Action.ALLOW)
        assert found["allowed.test"].addresses == [PUBLIC]
        tested = box.policy.test({"default": "deny", "rules": [{"domain": "allowed.test"}, {"domain": "*.wild.test"}]})
        assert {item.name: item.now for item in tested.items} == {
            "allowed.test": Action.ALLOW,
            "other.test": Action.DENY,
            "rebind.wild.test": Action.DENY,
        }
        assert box.policy.get().default is Action.ALLOW, "nothing was changed"
        with box.policy.follow_log() as lines:
            box.commands.run(["getent", "ahostsv4", "late.test"])
            assert "late.test" in [next(iter(lines)).name for _ in range(len(found) + 1)]


def test_the_history_tells_of_the_change(lab: Lab) -> None:
    lab.rule("allowed.test")
    assert lab.box.events()[-1].message == "policy: default deny, 1 rules"
