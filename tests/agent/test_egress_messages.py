"""What guests send may be anything; what they are told is what they asked for and nothing else."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.egress import messages
from skerry.agent.egress.messages import ADDRESSES_MAX, CHAIN_MAX, QUERY_BYTES_MAX, TTL_S_MAX, TTL_S_MIN, Unreadable


def wire(name: str | dns.name.Name, kind: str = "A") -> bytes:
    return dns.message.make_query(name, kind).to_wire()


def given_answer(*records: str) -> dns.message.Message:
    answer = dns.message.make_response(dns.message.make_query("a.test", "A"))
    for record in records:
        owner, ttl_s, kind, data = record.split(maxsplit=3)
        answer.answer.append(dns.rrset.from_text(owner + ".", int(ttl_s), dns.rdataclass.IN, kind, data))
    return answer


def test_a_question_is_read_in_one_spelling() -> None:
    asked = messages.read(wire("A.TeSt", "AAAA"))
    assert (asked.name, asked.kind) == ("a.test", "AAAA")


def test_a_dot_inside_a_label_is_not_taken_for_one_between_two() -> None:
    """`evil.pypi` . `org` must not pass for a name below pypi.org."""
    for labels in ((b"evil.pypi", b"org", b""), (b"a\0b", b"pypi", b"org", b""), (b"\xff", b"org", b"")):
        assert messages.read(wire(dns.name.Name(labels))).name == ""


@given(st.binary(max_size=QUERY_BYTES_MAX + 50))
def test_anything_at_all_is_read_or_passed_over(noise: bytes) -> None:
    for sent in (noise, wire("a.test")[:12] + noise, wire("a.test")[: len(noise)] + noise):
        try:
            asked = messages.read(sent)
        except Unreadable:
            continue
        assert asked.name == asked.name.lower()
        messages.status(asked, dns.rcode.REFUSED)


def test_answers_several_questions_and_long_ones_are_passed_over() -> None:
    query = dns.message.make_query("a.test", "A")
    query.flags |= dns.flags.QR
    two = dns.message.make_query("a.test", "A")
    two.question.append(two.question[0])
    for sent in (query.to_wire(), two.to_wire(), wire("a.test") + bytes(QUERY_BYTES_MAX)):
        with pytest.raises(Unreadable):
            messages.read(sent)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["a.test 60 A 192.0.2.1"], (["192.0.2.1"], 60)),
        (["a.test 1 A 192.0.2.1"], (["192.0.2.1"], TTL_S_MIN)),
        (["a.test 999999 A 192.0.2.1"], (["192.0.2.1"], TTL_S_MAX)),
        (["a.test 900 CNAME b.test.", "b.test 70 CNAME c.test.", "c.test 80 A 192.0.2.3"], (["192.0.2.3"], 70)),
        (["c.test 80 A 192.0.2.3", "A.TEST 900 CNAME C.test."], (["192.0.2.3"], 80)),
        (["other.test 60 A 192.0.2.9"], ([], TTL_S_MIN)),
        (["a.test 60 CNAME b.test.", "other.test 60 A 192.0.2.9"], ([], TTL_S_MIN)),
        (["a.test 60 CNAME b.test.", "b.test 60 CNAME a.test."], ([], TTL_S_MIN)),
    ],
)
def test_addresses_are_those_at_the_end_of_the_asked_names_chain(
    records: list[str], expected: tuple[list[str], int]
) -> None:
    assert messages.found(given_answer(*records), "a.test") == expected


def test_chains_and_answers_have_an_end() -> None:
    chain = [f"n{at}.test 60 CNAME n{at + 1}.test." for at in range(CHAIN_MAX)]
    assert messages.found(given_answer(*chain, f"n{CHAIN_MAX}.test 60 A 192.0.2.1"), "n0.test")[0] == []
    many = [f"a.test 60 A 192.0.2.{at}" for at in range(ADDRESSES_MAX + 30)]
    found, ttl_s = messages.found(given_answer(*many), "a.test")
    assert len(found) == ADDRESSES_MAX
    longest = ".".join(["a" * 60, "b" * 60, "c" * 60, "d" * 50])
    assert len(messages.addresses(messages.read(wire(longest)), found, ttl_s)) <= messages.ANSWER_BYTES_MAX
    plain = messages.read(dns.message.make_query("a" * 60 + ".b.test", "A", use_edns=False).to_wire())
    assert len(messages.addresses(plain, found, ttl_s)) <= messages.PLAIN_BYTES_MAX


def test_what_is_relayed_fits_or_says_that_it_does_not() -> None:
    long = given_answer(*(f"a.test 60 TXT {'x' * 250}{at}" for at in range(8)))
    asked = messages.read(wire("a.test", "TXT"))
    cut = dns.message.from_wire(messages.relayed(asked, long, by_udp=True), ignore_trailing=False)
    assert cut.flags & dns.flags.TC
    assert cut.answer == []
    assert len(dns.message.from_wire(messages.relayed(asked, long, by_udp=False)).answer[0]) == 8
