"""What a policy says of names and addresses: most specific first, and nothing private unless it is named."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.model.policy import Action, NameAsked, Policy, Preset, Rule
from skerry.model.sandbox import SandboxSpec
from skerry.model.verdict import (
    LABEL_CHARACTERS_MAX,
    METADATA,
    NAME_CHARACTERS_MAX,
    REFUSED,
    AddressJudge,
    NameJudge,
    is_looser,
    judge_answer,
    replay,
    rules_from_ranges,
)

ALLOW, DENY = Action.ALLOW, Action.DENY


def closed(*rules: Rule) -> Policy:
    return Policy(default=DENY, rules=list(rules))


def name(domain: str, action: Action = ALLOW) -> Rule:
    return Rule(domain=domain, action=action)


def cidr(text: str, action: Action = ALLOW) -> Rule:
    return Rule(cidr=text, action=action)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("example.com", False),
        ("a.example.com", True),
        ("a.b.example.com", True),
        ("bad.example.com", False),
        ("x.bad.example.com", True),
        ("deep.bad.example.com", False),
        ("x.deep.bad.example.com", False),
        ("notexample.com", False),
        ("example.com.evil.test", False),
        ("_http._tcp.a.example.com", True),
        ("_http._tcp.bad.example.com", False),
    ],
)
def test_the_most_specific_rule_wins(asked: str, allowed: bool) -> None:
    judge = NameJudge(
        closed(
            name("*.example.com"),
            name("bad.example.com", DENY),
            name("deep.bad.example.com", DENY),
            name("*.deep.bad.example.com", DENY),
        )
    )
    assert judge.judge(asked).allows is allowed


def test_of_two_as_specific_ones_own_wins_over_a_preset_and_deny_over_allow() -> None:
    assert not NameJudge(closed(name("a.test"), name("a.test", DENY))).judge("a.test").allows
    assert not NameJudge(closed(name("a.test", DENY), name("a.test"))).judge("a.test").allows
    own = NameJudge(closed(name("pypi.org", DENY), Rule(include=Preset.DEV)))
    assert not own.judge("pypi.org").allows
    assert own.judge("files.pythonhosted.org").rule == "preset dev"


def test_resolvers_over_https_are_denied_where_names_are_judged_unless_named() -> None:
    for policy in (closed(name("*.google")), Policy(rules=[name("evil.test", DENY)])):
        assert not NameJudge(policy).judge("dns.google").allows
        assert not NameJudge(policy).judge("use-application-dns.net").allows
    assert NameJudge(closed(name("dns.google"))).judge("dns.google").allows
    assert NameJudge(Policy()).judge("dns.google").allows


def test_a_name_in_which_data_could_travel_needs_a_rule_of_its_own() -> None:
    long_label = f"{'a' * (LABEL_CHARACTERS_MAX + 1)}.wild.test"
    long_name = ".".join(["a" * 30] * (NAME_CHARACTERS_MAX // 31 + 1)) + ".wild.test"
    for asked in (long_label, long_name):
        verdict = NameJudge(closed(name("*.wild.test"))).judge(asked)
        assert (verdict.allows, "at most" in verdict.why) == (False, True)
        assert NameJudge(closed(name(asked))).judge(asked).allows


@pytest.mark.parametrize(
    ("address", "rules", "expected"),
    [
        ("203.0.113.1", [], None),
        ("10.1.2.3", [], False),
        ("10.1.2.3", [cidr("10.1.0.0/16")], True),
        ("10.2.2.3", [cidr("10.1.0.0/16")], False),
        ("10.1.2.3", [cidr("0.0.0.0/0")], False),
        ("10.1.2.3", [cidr("10.0.0.0/8")], True),
        ("10.1.2.3", [cidr("10.0.0.0/8"), cidr("10.1.2.0/24", DENY)], False),
        ("8.8.8.8", [cidr("0.0.0.0/0")], True),
        ("8.8.8.8", [cidr("8.0.0.0/8", DENY), cidr("8.8.8.8")], True),
        ("8.8.8.8", [cidr("8.8.8.8", DENY), cidr("8.8.8.8")], False),
        (METADATA, [cidr(METADATA), cidr("169.254.0.0/16")], False),
        ("127.0.0.1", [], False),
    ],
)
def test_addresses_by_the_longest_prefix(address: str, rules: list[Rule], expected: bool | None) -> None:
    verdict = AddressJudge(Policy(rules=rules)).judge(address)
    assert (verdict.allows if verdict is not None else None) is expected


networks = st.builds(
    lambda address, prefix: str(ipaddress.ip_network((address, prefix), strict=False)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 4, 8, 9, 16, 24, 30, 31, 32]),
)
near_private = st.sampled_from([*REFUSED, "10.1.0.0/16", "10.1.2.0/24", "192.168.1.1/32", "8.8.8.8/32", "0.0.0.0/0"])
range_rules = st.builds(cidr, networks | near_private, st.sampled_from(Action))


@given(st.lists(range_rules, max_size=12), st.integers(0, 2**32 - 1))
def test_ranges_are_what_the_judge_says_and_never_overlap(rules: list[Rule], somewhere: int) -> None:
    judge = AddressJudge(Policy(rules=rules))
    ranges = judge.ranges()
    spans = {
        action: [_span(text) for text in texts] for action, texts in ((ALLOW, ranges.allowed), (DENY, ranges.denied))
    }
    every = sorted(span for found in spans.values() for span in found)
    assert all(first <= last for first, last in every)
    assert all(one[1] < other[0] for one, other in pairwise(every))
    edges = [edge + step for span in every for edge in span for step in (-1, 0, 1)]
    for number in [somewhere, *edges]:
        if not 0 <= number < 2**32 or str(ipaddress.IPv4Address(number)) == METADATA:
            continue
        verdict = judge.judge(str(ipaddress.IPv4Address(number)))
        ours = verdict is not None and not (verdict.rule or "").startswith("private")
        for action in Action:
            inside = any(first <= number <= last for first, last in spans[action])
            assert inside is (ours and verdict is not None and verdict.action is action)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last or first))


domains = st.sampled_from(["a.test", "*.a.test", "b.a.test", "*.b.a.test", "*.test", "dns.google", "pypi.org"])
rules = st.lists(
    st.builds(name, domains, st.sampled_from(Action))
    | st.builds(Rule, include=st.sampled_from(Preset), action=st.sampled_from(Action))
    | range_rules,
    max_size=4,
)
policies = st.builds(Policy, default=st.sampled_from(Action), rules=rules)


@given(policies, policies)
def test_what_is_called_looser_allows_all_that_was_allowed(old: Policy, extra: Policy) -> None:
    """Both for any pair, which are hardly ever looser, and for a pair made by adding to it."""
    for new in (extra, old, old.model_copy(update={"rules": [*old.rules, *extra.rules]}), Policy()):
        if not is_looser(new, old):
            continue
        for asked in ("a.test", "x.a.test", "b.a.test", "x.b.a.test", "other.test", "dns.google", "pypi.org", "x.org"):
            assert NameJudge(new).judge(asked).allows or not NameJudge(old).judge(asked).allows
        for address in ("8.8.8.8", "10.1.2.3", "192.168.1.1", "203.0.113.9", "172.16.0.1"):
            assert _reached(new, address) or not _reached(old, address)


def _reached(policy: Policy, address: str) -> bool:
    verdict = AddressJudge(policy).judge(address)
    return verdict.allows if verdict is not None else policy.default is ALLOW


@given(policies)
def test_a_policy_is_as_loose_as_itself(policy: Policy) -> None:
    assert is_looser(policy, policy)


def test_an_answer_is_denied_when_every_address_of_it_is() -> None:
    addresses = AddressJudge(closed(cidr("10.1.0.0/16")))
    allowed = NameJudge(closed(name("a.test"))).judge("a.test")
    assert judge_answer(allowed, ["203.0.113.1", "127.0.0.1"], addresses).allows
    assert judge_answer(allowed, ["10.1.0.9"], addresses).allows
    assert judge_answer(allowed, ["10.2.0.9", "127.0.0.1"], addresses).why == "a private address"


def test_a_draft_is_tried_on_what_was_asked() -> None:
    def asked(text: str, action: Action, *addresses: str) -> NameAsked:
        return NameAsked(
            at=datetime(2026, 1, 1, tzinfo=UTC), name=text, type="A", action=action, addresses=[*addresses]
        )

    log = [
        asked("a.test", ALLOW, "203.0.113.1"),
        asked("a.test", ALLOW),
        asked("b.test", ALLOW, "203.0.113.2"),
        asked("c.test", DENY),
        asked("", DENY),
        asked("inner.test", ALLOW, "10.0.0.9"),
    ]
    tested = replay(log, closed(name("a.test"), name("c.test"), name("inner.test")))
    assert [(item.name, item.times, item.was, item.now) for item in tested.items] == [
        ("b.test", 1, ALLOW, DENY),
        ("c.test", 1, DENY, ALLOW),
        ("inner.test", 1, ALLOW, DENY),
        ("a.test", 2, ALLOW, ALLOW),
    ]
    assert (tested.denied_more, tested.allowed_more) == (2, 1)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"domain": "*"}, "domain"),
        ({"domain": "a.*.test"}, "domain"),
        ({"domain": "-a.test"}, "domain"),
        ({"domain": "a..test"}, "domain"),
        ({"domain": "1.2.3.4"}, "domain"),
        ({"domain": f"{'a' * 64}.test"}, "domain"),
        ({"cidr": "fd00::/8"}, "cidr"),
        ({"cidr": "nonsense"}, "cidr"),
        ({"include": "everything"}, "include"),
        ({"domain": "a.test", "cidr": "10.0.0.0/8"}, None),
        ({}, None),
        ({"domain": "a.test", "port": 80}, "port"),
    ],
)
def test_rules_that_say_nothing_clear_are_refused(rule: dict[str, object], field: str | None) -> None:
    with pytest.raises(ValidationError) as refused:
        SandboxSpec.model_validate({"image": "debian:12", "network": {"rules": [rule]}})
    where = refused.value.errors()[0]["loc"]
    assert where == ("network", "rules", 0, *([field] if field else []))


def test_domains_are_kept_in_one_spelling() -> None:
    assert Rule(domain="PyPI.org.").domain == "pypi.org"
    assert Rule(domain="*.bücher.example").domain == "*.xn--bcher-kva.example"


def test_the_ranges_of_older_records_open_what_they_opened() -> None:
    opened = AddressJudge(Policy(rules=[Rule.model_validate(rule) for rule in rules_from_ranges(["0.0.0.0/0"])]))
    narrow = AddressJudge(Policy(rules=[Rule.model_validate(rule) for rule in rules_from_ranges(["10.1.0.0/16"])]))
    assert all(opened.judge(address).allows for address in ("10.1.2.3", "192.168.1.1"))  # pyright: ignore
    assert [narrow.judge(address).allows for address in ("10.1.2.3", "10.2.2.3")] == [True, False]  # pyright: ignore
    assert not opened.judge(METADATA).allows  # pyright: ignore
