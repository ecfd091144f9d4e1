"""The firewall as nftables reads it: one table, in which sets say which sandbox is judged by which chain."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from skerry.model.presets import OTHER_RESOLVER_ADDRESSES
from skerry.model.verdict import METADATA, REFUSED

PINS_MAX = 1 << 20
"""Of all sandboxes together; each has its own, much lower limit."""
CONNECTIONS_MAX = 4096
"""Of one sandbox at one time. The host remembers those of all in one table, usually of 262,144: a single sandbox that
sends to as many ports could fill it, and then nobody on the machine begins a connection. With twice as many the kernel
takes three times as long to see that the bound is reached."""
QUESTION_RATE = "200/second burst 1000 packets"
"""Of one sandbox to the resolver, which itself answers far fewer: this is what it takes the trouble to count."""
REJECT = "reject with icmp type admin-prohibited"
DNS = "meta l4proto { tcp, udp } th dport 53"

_BOUND = f"ct state new add @connections {{ ip saddr ct count over {CONNECTIONS_MAX} }}"

SETS: Mapping[str, str] = {
    "sources": "set sources { type ifname . ipv4_addr;",
    "lanes": "set lanes { type ipv4_addr . ipv4_addr; flags interval;",
    "policies": "map policies { type ipv4_addr : verdict;",
    "asking": "set asking { type ipv4_addr;",
    "allowed": "set allowed { type ipv4_addr . ipv4_addr; flags interval;",
    "denied": "set denied { type ipv4_addr . ipv4_addr; flags interval;",
    "epochs": "map epochs { type ipv4_addr : mark;",
    "live": "set live { type ipv4_addr . mark;",
    "pinned": f"set pinned {{ type ipv4_addr . ipv4_addr; flags timeout; size {PINS_MAX};",
}
"""What changes while sandboxes come and go.

`sources`: link . address that may send on it. `lanes`: member address . its private network, the only place that it may
send to. `policies`: by which chain an address is judged; those that are not in
it, which is most, cost one look-up. `asking`: whose names are asked through our resolver. `pinned`: what a name led to,
for as long as the answer holds. `epochs` and `live`: connections carry the mark of the rules they were let through by,
so that they outlive a pin, and end at once with the mark."""


class Judged(StrEnum):
    """How the packets of an address are judged; the value is the chain's name."""

    OPEN = "open"  # as without a policy: no entry, no chain
    BY_RANGES = "by_ranges"
    BY_NAMES = "by_names"  # names are denied, so no other way to ask for one is open
    CLOSED = "closed"  # only what a range or a name's answer opens


@dataclass(frozen=True)
class Wiring:
    """What is the same for every sandbox of this machine."""

    table: str
    links: str
    subnet: ipaddress.IPv4Network
    resolver: ipaddress.IPv4Address
    nameserver: ipaddress.IPv4Address | None

    def text(self, elements: Mapping[str, Iterable[str]]) -> str:
        """The whole table, for a table that does not exist."""
        sets = "\n".join(f"    {head} {_initial(elements.get(name, ()))} }}" for name, head in SETS.items())
        return f"""
table {self.table} {{
{sets}
    set connections {{ type ipv4_addr; flags dynamic; size 65535; }}
    set questions {{ type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }}
    set refused {{ type ipv4_addr; flags interval; elements = {{ {", ".join(REFUSED)} }} }}
    set resolvers {{ type ipv4_addr; flags interval; elements = {{ {", ".join(OTHER_RESOLVER_ADDRESSES)} }} }}
{self._chains()}
}}
"""

    def change(self, verb: str, name: str, elements: Iterable[str]) -> str:
        joined = ", ".join(elements)
        return f"{verb} element {self.table} {name} {{ {joined} }}\n" if joined else ""

    def _chains(self) -> str:
        links = self.links
        return f"""
    chain admission {{
        type filter hook prerouting priority raw; policy accept;
        iifname {links} meta nfproto != ipv4 drop
        iifname {links} iifname . ip saddr != @sources drop
        iifname {links} ip saddr != {self.subnet} ip saddr . ip daddr != @lanes drop
    }}
    chain leave_host {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {self.subnet} oifname != {links} masquerade
    }}
    chain to_sandbox {{
        ct direction reply ct state established,related accept
        ct state related accept
        drop
    }}
{self._to_host()}
{self._through()}
{_POLICIES}"""

    def _to_host(self) -> str:
        links = self.links
        # Of the four addresses of a slot the second is its gateway, on the host.
        own_gateway = f"ip daddr {self.subnet} ip daddr & 0.0.0.3 == 0.0.0.1"
        redirect = f"iifname {links} {own_gateway} {DNS} dnat ip to {self.nameserver}" if self.nameserver else ""
        return f"""
    chain to_nameserver {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname {links} {own_gateway} ip saddr @asking {DNS} dnat ip to {self.resolver}
        {redirect}
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
        iifname {links} goto from_sandbox_to_host
        ip daddr {self.resolver} drop
    }}
    chain from_sandbox_to_host {{
        ct direction reply ct state established,related accept
        {_BOUND} {REJECT}
        {self._pass_dns()}
        # All share the resolver's one socket: none may fill it.
        ip daddr {self.resolver} update @questions {{ ip saddr limit rate over {QUESTION_RATE} }} drop
        ct status dnat ip daddr {self.resolver} {DNS} accept
        {REJECT}
    }}"""

    def _pass_dns(self) -> str:
        """Of those who ask the nameserver straight: also of the others there may be a connection from before."""
        if self.nameserver is None:
            return ""
        return f"ip saddr != @asking ct status dnat ip daddr {self.nameserver} {DNS} accept"

    def _through(self) -> str:
        links = self.links
        return f"""
    chain through {{
        type filter hook forward priority filter; policy accept;
        iifname {links} goto from_sandbox
        oifname {links} goto to_sandbox
    }}
    chain from_sandbox {{
        # From a member's address there is no way out, not even for replies to one who has left.
        ip saddr != {self.subnet} oifname != {links} {REJECT}
        # Every packet of what a sandbox began is judged, not only the first: a stale connection opens nothing.
        ct direction reply ct state established,related accept
        ct state invalid drop
        oifname {links} goto between
        tcp dport 25 reject with tcp reset
        {_BOUND} {REJECT}
        ip saddr vmap @policies
        {self._pass_dns()}
        ip daddr {METADATA} {REJECT}
        ip daddr @refused {REJECT}
        accept
    }}
    chain between {{
        ip saddr {self.subnet} {REJECT}
        # From a member's address, and admitted: then it goes to that network, where routes lead to members alone.
        {_BOUND} {REJECT}
        accept
    }}
    chain by_ranges {{
        {self._pass_dns()}
        jump by_address
        accept
    }}"""


_POLICIES = f"""
    chain by_names {{
        jump other_ways_to_ask
        jump by_address
        ip daddr @resolvers tcp dport 443 {REJECT}
        accept
    }}
    chain closed {{
        jump other_ways_to_ask
        ip saddr . ct mark @live accept
        jump by_address
        ip saddr . ip daddr @pinned ct mark set ip saddr map @epochs accept
        {REJECT}
    }}
    chain other_ways_to_ask {{
        # Plain DNS, DNS over TLS and QUIC; and HTTP/3, in which no name of a server can be seen.
        meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} {REJECT}
        udp dport {{ 443, 784, 8853 }} {REJECT}
    }}
    chain by_address {{
        ip daddr {METADATA} {REJECT}
        ip saddr . ip daddr @denied {REJECT}
        ip saddr . ip daddr @allowed accept
        ip daddr @refused {REJECT}
    }}"""


def _initial(elements: Iterable[str]) -> str:
    joined = ", ".join(elements)
    return f"elements = {{ {joined} }};" if joined else ""
