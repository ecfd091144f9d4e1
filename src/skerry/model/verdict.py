"""What a policy says of a name and of an address: pure, and the same for the resolver, the firewall and a test."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from skerry.model.policy import (
    NAMES_REPLAYED_MAX,
    RULES_MAX,
    Action,
    NameAsked,
    NameReplayed,
    Policy,
    PolicyTest,
)
from skerry.model.presets import OTHER_RESOLVERS, PRESETS

REFUSED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
"""Private, shared, loopback, link-local, test and multicast: reached only where a rule names the range, or part of it.
One that only contains it, such as 0.0.0.0/0, is less specific, and so does not open it."""
METADATA = "169.254.169.254"
"""Where clouds hand out the machine's own credentials; no rule opens it."""

NAME_CHARACTERS_MAX = 128
LABEL_CHARACTERS_MAX = 60
"""Of a name that a wildcard or the default allows: who may choose a name freely can carry data out in it."""
SERVICE_LABELS = "_"
"""`_http._tcp.example.com` is asked on behalf of `example.com`, and judged as that."""

_OWN, _PRESET, _BUILT_IN = 2, 1, 0


@dataclass(frozen=True)
class Verdict:
    action: Action
    rule: str | None = None
    """None: the default decided."""
    exact: bool = False
    """The rule names exactly this name, so that nothing can be hidden in it."""
    why: str = ""

    @property
    def allows(self) -> bool:
        return self.action is Action.ALLOW


@dataclass(frozen=True)
class _Entry:
    action: Action
    rule: str
    rank: int

    def beats(self, other: _Entry | None) -> bool:
        """Between two that are as specific."""
        if other is None or self.rank != other.rank:
            return other is None or self.rank > other.rank
        return self.action is Action.DENY


class NameJudge:
    """Made once for a policy; a name costs as many look-ups as it has labels."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._exact: dict[str, _Entry] = {}
        self._below: dict[str, _Entry] = {}
        if policy.judges_names:
            for domain in OTHER_RESOLVERS:
                self._put(domain, _Entry(Action.DENY, "resolvers over HTTPS", _BUILT_IN))
        for rule in policy.rules:
            if rule.domain is not None:
                self._put(rule.domain, _Entry(rule.action, rule.domain, _OWN))
            elif rule.include is not None:
                for domain in PRESETS[rule.include]:
                    self._put(domain, _Entry(rule.action, f"preset {rule.include.value}", _PRESET))

    def _put(self, domain: str, entry: _Entry) -> None:
        place, key = (self._below, domain[2:]) if domain.startswith("*.") else (self._exact, domain)
        if entry.beats(place.get(key)):
            place[key] = entry

    def entries(self) -> dict[str, Action]:
        """Everything it was told of names, presets and all: for comparing two policies."""
        exact = {name: entry.action for name, entry in self._exact.items()}
        return exact | {f"*.{name}": entry.action for name, entry in self._below.items()}

    def judge(self, name: str) -> Verdict:
        """`name`: lower case, without a dot at its end."""
        if not self.policy.judges_names:
            return Verdict(Action.ALLOW)
        labels = name.split(".")
        while len(labels) > 1 and labels[0].startswith(SERVICE_LABELS):
            labels = labels[1:]
        entry = self._exact.get(".".join(labels))
        if entry is not None:
            return Verdict(entry.action, entry.rule, exact=True)
        found = Verdict(self.policy.default)
        for at in range(1, len(labels)):
            entry = self._below.get(".".join(labels[at:]))
            if entry is not None:
                found = Verdict(entry.action, entry.rule)
                break
        if found.allows and _could_carry_data(name):
            limits = f"{NAME_CHARACTERS_MAX} characters, {LABEL_CHARACTERS_MAX} between dots"
            return Verdict(Action.DENY, found.rule, why=f"a name that no rule names exactly has at most {limits}")
        return found


def _could_carry_data(name: str) -> bool:
    return len(name) > NAME_CHARACTERS_MAX or any(len(label) > LABEL_CHARACTERS_MAX for label in name.split("."))


@dataclass(frozen=True)
class Ranges:
    """What a policy's rules about addresses come to, without overlaps: `first-last`, or one address."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class AddressJudge:
    """The longest prefix wins; our own refusals take part as rules that any rule as specific beats."""

    def __init__(self, policy: Policy) -> None:
        self._entries: dict[ipaddress.IPv4Network, _Entry] = {}
        for text in REFUSED:
            self._put(text, _Entry(Action.DENY, f"private {text}", _BUILT_IN))
        for rule in policy.rules:
            if rule.cidr is not None:
                self._put(rule.cidr, _Entry(rule.action, rule.cidr, _OWN))
        self._prefixes = sorted({network.prefixlen for network in self._entries}, reverse=True)

    def _put(self, text: str, entry: _Entry) -> None:
        network = ipaddress.IPv4Network(text)
        if entry.beats(self._entries.get(network)):
            self._entries[network] = entry

    def judge(self, address: str) -> Verdict | None:
        """None where no rule is about it: then the name it was found by decides, or the default."""
        if address == METADATA:
            return Verdict(Action.DENY, METADATA, why="metadata of the machine")
        entry = self._find(int(ipaddress.IPv4Address(address)))
        if entry is None:
            return None
        return Verdict(entry.action, entry.rule, why="a private address" if entry.rank == _BUILT_IN else "")

    def _find(self, address: int) -> _Entry | None:
        for prefix in self._prefixes:
            entry = self._entries.get(ipaddress.IPv4Network((address >> (32 - prefix) << (32 - prefix), prefix)))
            if entry is not None:
                return entry
        return None

    def ranges(self) -> Ranges:
        """Only what the user's rules decide; our own refusals are the same for all sandboxes."""
        edges = {0, 1 << 32}
        for network in self._entries:
            edges |= {int(network.network_address), int(network.broadcast_address) + 1}
        ordered = sorted(edges)
        found: dict[Action, list[tuple[int, int]]] = {Action.ALLOW: [], Action.DENY: []}
        for first, end in pairwise(ordered):
            entry = self._find(first)
            if entry is None or entry.rank == _BUILT_IN:
                continue
            stretch = found[entry.action]
            if stretch and stretch[-1][1] == first:
                stretch[-1] = (stretch[-1][0], end)
            else:
                stretch.append((first, end))
        return Ranges(allowed=_written(found[Action.ALLOW]), denied=_written(found[Action.DENY]))

    def entries(self) -> dict[str, Action]:
        return {str(network): entry.action for network, entry in self._entries.items() if entry.rank != _BUILT_IN}


def _written(stretches: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    pairs = ((ipaddress.IPv4Address(first), ipaddress.IPv4Address(end - 1)) for first, end in stretches)
    return tuple(f"{first}-{last}" if first != last else f"{first}" for first, last in pairs)


def is_looser(new: Policy, old: Policy) -> bool:
    """Whether everything that `old` allows is surely allowed by `new`; then no open connection need be cut. May say no
    of two that come to the same: the rules are compared one by one."""
    if old.default is Action.ALLOW and (new.default is Action.DENY or new.judges_names is not old.judges_names):
        return False
    for was, now in (
        (NameJudge(old).entries(), NameJudge(new).entries()),
        (AddressJudge(old).entries(), AddressJudge(new).entries()),
    ):
        kept = all(now.get(name) is Action.ALLOW for name, action in was.items() if action is Action.ALLOW)
        if not kept or any(was.get(name) is not Action.DENY for name, action in now.items() if action is Action.DENY):
            return False
    return True


def replay(asked: Iterable[NameAsked], draft: Policy) -> PolicyTest:
    """What would have become of each name under `draft`, judged as the resolver judges, addresses included."""
    names, addresses = NameJudge(draft), AddressJudge(draft)
    found: dict[str, list[NameAsked]] = {}
    for line in asked:
        if not line.name:
            continue  # too many questions, or something that is none
        found.setdefault(line.name, []).append(line)
    items = [_replayed(name, lines, names, addresses) for name, lines in found.items()]
    items.sort(key=lambda item: (item.was is item.now, -item.times, item.name))
    return PolicyTest(
        items=items[:NAMES_REPLAYED_MAX],
        denied_more=sum(item.was is Action.ALLOW and item.now is Action.DENY for item in items),
        allowed_more=sum(item.was is Action.DENY and item.now is Action.ALLOW for item in items),
        truncated=len(items) > NAMES_REPLAYED_MAX,
    )


def _replayed(name: str, lines: list[NameAsked], names: NameJudge, addresses: AddressJudge) -> NameReplayed:
    newest = max(lines, key=lambda line: line.at)
    answered = next((line.addresses for line in reversed(lines) if line.addresses), list[str]())
    verdict = judge_answer(names.judge(name), answered, addresses)
    last_at: datetime = newest.at
    return NameReplayed(
        name=name,
        times=len(lines),
        last_at=last_at,
        was=newest.action,
        now=verdict.action,
        rule=verdict.rule,
        why=verdict.why,
    )


def judge_answer(verdict: Verdict, answered: Iterable[str], addresses: AddressJudge) -> Verdict:
    """The verdict on a name once its addresses are known: denied if every one of them is."""
    if not verdict.allows:
        return verdict
    judged = [addresses.judge(address) for address in answered]
    denied = [each for each in judged if each is not None and not each.allows]
    if judged and len(denied) == len(judged):
        return Verdict(Action.DENY, denied[0].rule, why=denied[0].why or "its address is denied")
    return verdict


def rules_from_ranges(ranges: Iterable[str]) -> list[dict[str, str]]:
    """The rules that open what `network.allow` of Skerry 0.1 opened, for records that it wrote: private ranges, and of
    a wider one all that lie in it."""
    rules: list[dict[str, str]] = []
    for text in ranges:
        network = ipaddress.ip_network(text, strict=False)
        if not isinstance(network, ipaddress.IPv4Network):
            continue  # never had an effect: no machine started such a sandbox
        inside = [each for each in map(ipaddress.IPv4Network, REFUSED) if each.subnet_of(network)]
        rules += [{"cidr": str(each), "action": "allow"} for each in inside or [network]]
    return rules[:RULES_MAX]
