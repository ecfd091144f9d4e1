"""DNS messages, pure: read what a guest sent, which may be anything, and write what it gets back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.IN.A import A

QUERY_BYTES_MAX = 512
"""A question with every option that resolvers send is a quarter of that."""
PLAIN_BYTES_MAX = 512
"""An answer by UDP to who does not say that it takes more."""
ANSWER_BYTES_MAX = 1232
"""By UDP to who does: what no path has to take apart."""
ADDRESSES_MAX = 20
"""Of one answer: so many always fit a plain datagram."""
CHAIN_MAX = 16
"""CNAMEs from a name to its addresses."""
TTL_S_MIN, TTL_S_MAX = 30, 3600
"""Shorter ones would have a guest ask, and us write to the firewall, at every connection; longer ones would keep an
address open that the name has long left."""

_LABEL = re.compile(rb"[a-z0-9_-]{1,63}")


class Unreadable(Exception):
    """No question that anybody could answer."""


@dataclass(frozen=True)
class Question:
    name: str
    """Lower case, without a dot at its end, letters, digits, `-` and `_` only; or "" where it is another kind."""
    type: dns.rdatatype.RdataType
    message: dns.message.Message

    @property
    def kind(self) -> str:
        return dns.rdatatype.to_text(self.type)


def read(wire: bytes) -> Question:
    """Raises Unreadable: such a thing is not even answered."""
    if len(wire) > QUERY_BYTES_MAX:
        raise Unreadable
    try:
        message = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError):
        raise Unreadable from None
    if message.flags & dns.flags.QR or message.opcode() != dns.opcode.QUERY or len(message.question) != 1:
        raise Unreadable
    asked = message.question[0]
    if asked.rdclass != dns.rdataclass.IN:
        raise Unreadable
    # Judged by its labels and not as text: a dot inside a label must not be taken for one between two.
    labels = [label.lower() for label in asked.name.labels if label]
    plain = bool(labels) and all(_LABEL.fullmatch(label) for label in labels)
    return Question(b".".join(labels).decode() if plain else "", asked.rdtype, message)


def question(name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
    """For the nameserver: made anew, so that nothing of what the guest sent but name and type goes on."""
    return dns.message.make_query(name + ".", kind, use_edns=0, payload=ANSWER_BYTES_MAX)


def status(asked: Question, code: dns.rcode.Rcode) -> bytes:
    """An answer without content: refused, no such name, or (NOERROR) none of this type."""
    answer = dns.message.make_response(asked.message, recursion_available=True)
    answer.set_rcode(code)
    return answer.to_wire()


def addresses(asked: Question, found: list[str], ttl_s: int) -> bytes:
    """As if the asked name itself had them: a guest learns of no name it did not ask for."""
    answer = dns.message.make_response(asked.message, recursion_available=True)
    name = asked.message.question[0].name
    answer.answer.append(dns.rrset.from_text(name, ttl_s, dns.rdataclass.IN, dns.rdatatype.A, *found))
    return answer.to_wire()


def relayed(asked: Question, given: dns.message.Message, *, by_udp: bool) -> bytes:
    """What the nameserver said, as it is; cut to its head where it does not fit."""
    answer = dns.message.make_response(asked.message, recursion_available=True)
    answer.set_rcode(given.rcode())
    answer.answer, answer.authority = list(given.answer), list(given.authority)
    if not by_udp:
        return answer.to_wire()
    takes = max(PLAIN_BYTES_MAX, min(asked.message.payload, ANSWER_BYTES_MAX))
    try:
        return answer.to_wire(max_size=takes)
    except dns.exception.TooBig:
        answer.answer, answer.authority = [], []
        answer.flags |= dns.flags.TC
        return answer.to_wire()


def found(given: dns.message.Message, name: str) -> tuple[list[str], int]:
    """Addresses at the end of the chain that begins with `name`, and how long they hold; records of other names, which
    an answer may hold as well, count for nothing."""
    addresses: dict[str, tuple[list[str], int]] = {}
    aliases: dict[str, tuple[str, int]] = {}
    for rrset in given.answer:
        owner = _text(rrset.name)
        for record in cast(Iterable[object], rrset):
            if isinstance(record, A):
                addresses.setdefault(owner, ([], rrset.ttl))[0].append(str(record.address))
            elif isinstance(record, CNAME):
                aliases[owner] = (_text(record.target), rrset.ttl)
    ttl_s = TTL_S_MAX
    for _ in range(CHAIN_MAX):
        if name in addresses:
            listed, last_ttl_s = addresses[name]
            return listed[:ADDRESSES_MAX], max(TTL_S_MIN, min(ttl_s, last_ttl_s))
        if name not in aliases:
            break
        name, alias_ttl_s = aliases[name]
        ttl_s = min(ttl_s, alias_ttl_s)
    return [], TTL_S_MIN


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
