"""What sandboxes may reach: one nftables table that starts from "nothing private" and lets single ranges through."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from skerry.agent.nameservers import usable_nameserver
from skerry.agent.nftables import Nftables
from skerry.errors import Failed, Invalid

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
"""Private, shared, loopback, link-local, test and multicast: reached only where a sandbox's spec allows a range."""
METADATA = "169.254.169.254"
"""Where clouds hand out the machine's own credentials; no spec opens it."""
CONNECTIONS_MAX = 4096
"""Of one sandbox at one time. The host remembers those of all in one table, usually of 262,144: a single sandbox that
sends to as many ports could fill it, and then nobody on the machine begins a connection. With twice as many the kernel
takes three times as long to see that the bound is reached."""
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")

log = logging.getLogger(__name__)


class Firewall:
    """Sets in the table: `sources` (link . address that may send on it), `allowed` (address . range it may reach)."""

    def __init__(self, *, instance: str, subnet: str, nameserver: str | None = None) -> None:
        """`nameserver`: where DNS of sandboxes goes; None: the host's own first usable one."""
        self._table = f"inet skerry_{instance}"
        self._links = f'"sk{instance}-*"'
        self._subnet = ipaddress.IPv4Network(subnet)
        upstream = nameserver or usable_nameserver()
        self._nameserver = ipaddress.IPv4Address(upstream) if upstream else None
        self._nft: Nftables | None = None
        # What the sets hold, remembered: asking the kernel costs 27 ms with 2000 sandboxes.
        self._sources: set[tuple[str, str]] = set()
        self._allowed: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def open(self, keep: Iterable[str] = ()) -> None:
        """Put the table in place in one transaction; what an earlier agent let the addresses in `keep` do stays."""
        self._nft = self._nft or Nftables()
        kept = set(keep)
        with self._lock:
            self._sources = {pair for pair in self._elements("sources") if pair[1] in kept}
            self._allowed = {}
            for address, network in self._elements("allowed"):
                if address in kept:
                    self._allowed.setdefault(address, []).append(network)
            self._nft.run(f"add table {self._table}\ndelete table {self._table}\n{self._ruleset()}")
        # Only now that the rules stand: from here on this host routes.
        try:
            if FORWARDING.read_text().strip() != "1":
                log.info("switching on net.ipv4.ip_forward, so that sandboxes reach the network")
                FORWARDING.write_text("1\n")
        except OSError as error:
            raise Failed(
                "this host does not route: run `sysctl -w net.ipv4.ip_forward=1`", because=str(error)
            ) from None

    def close(self) -> None:
        """Let go; the table stays, since sandboxes go on running."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    def purge(self) -> None:
        """Take the table away; only when no sandbox is left."""
        self._run(f"add table {self._table}\ndelete table {self._table}\n")

    def admit(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Links in use, each with the one address that may send on it."""
        with self._lock:
            new = set(pairs) - self._sources
            if new:
                self._run(self._change("add", "sources", new))
                self._sources |= new

    def dismiss(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Undo `admit` and `allow`; pairs that are not there are fine."""
        with self._lock:
            wanted = set(pairs)
            sources = wanted & self._sources
            addresses = {address for _, address in wanted}
            allowed = [(address, network) for address in addresses for network in self._allowed.get(address, ())]
            commands = self._change("delete", "sources", sources) + self._change("delete", "allowed", allowed)
            if commands:
                self._run(commands)
            self._sources -= sources
            for address in addresses:
                self._allowed.pop(address, None)

    def allow(self, address: str, ranges: Sequence[str]) -> None:
        """Exactly these private ranges are open to this address from now on."""
        new = [str(network) for network in _collapsed(ranges)]
        with self._lock:
            old = self._allowed.get(address, [])
            if sorted(old) == sorted(new):
                return
            commands = self._change("delete", "allowed", [(address, network) for network in old])
            commands += self._change("add", "allowed", [(address, network) for network in new])
            self._run(commands)
            self._allowed[address] = new

    def _change(self, verb: str, name: str, pairs: Iterable[tuple[str, str]]) -> str:
        elements = _joined(pairs)
        return f"{verb} element {self._table} {name} {{ {elements} }}\n" if elements else ""

    def _run(self, commands: str) -> None:
        self._opened().run(commands)

    def _opened(self) -> Nftables:
        if self._nft is None:
            raise Failed("the firewall is not open")
        return self._nft

    def _elements(self, name: str) -> list[tuple[str, str]]:
        for item in self._opened().listing(f"list set {self._table} {name}"):
            if "set" in item:
                return [_pair(element) for element in item["set"].get("elem", [])]
        return []

    def _ruleset(self) -> str:
        allowed = [(address, network) for address, networks in self._allowed.items() for network in networks]
        return f"""
table {self._table} {{
    set sources {{ type ifname . ipv4_addr; {_initial(self._sources)} }}
    set allowed {{ type ipv4_addr . ipv4_addr; flags interval; {_initial(allowed)} }}
    set connections {{ type ipv4_addr; flags dynamic; size 65535; }}
    set refused {{ type ipv4_addr; flags interval; elements = {{ {", ".join(REFUSED)} }} }}
{self._chains()}
}}
"""

    def _chains(self) -> str:
        links, subnet = self._links, self._subnet
        bound = f"ct state new add @connections {{ ip saddr ct count over {CONNECTIONS_MAX} }}"
        refuse = "reject with icmp type admin-prohibited"
        redirect, pass_dns = "", ""
        if self._nameserver is not None:
            dns = "meta l4proto { tcp, udp } th dport 53"
            # Of the four addresses of a slot the second is its gateway, on the host.
            own_gateway = f"ip daddr {subnet} ip daddr & 0.0.0.3 == 0.0.0.1"
            redirect = f"iifname {links} {own_gateway} {dns} dnat ip to {self._nameserver}"
            pass_dns = f"ct status dnat ip daddr {self._nameserver} {dns} accept"
        return f"""
    chain admission {{
        type filter hook prerouting priority raw; policy accept;
        iifname {links} meta nfproto != ipv4 drop
        iifname {links} iifname . ip saddr != @sources drop
    }}
    chain to_nameserver {{
        type nat hook prerouting priority dstnat; policy accept;
        {redirect}
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
        iifname {links} goto from_sandbox_to_host
    }}
    chain from_sandbox_to_host {{
        ct direction reply ct state established,related accept
        {bound} {refuse}
        {pass_dns}
        {refuse}
    }}
    chain through {{
        type filter hook forward priority filter; policy accept;
        iifname {links} goto from_sandbox
        oifname {links} goto to_sandbox
    }}
    chain from_sandbox {{
        # Every packet of what a sandbox began is judged, not only the first: a stale connection opens nothing.
        ct direction reply ct state established,related accept
        ct state invalid drop
        oifname {links} {refuse}
        tcp dport 25 reject with tcp reset
        {bound} {refuse}
        {pass_dns}
        ip daddr {METADATA} {refuse}
        ip saddr . ip daddr @allowed accept
        ip daddr @refused {refuse}
        accept
    }}
    chain to_sandbox {{
        ct direction reply ct state established,related accept
        ct state related accept
        drop
    }}
    chain leave_host {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != {links} masquerade
    }}"""


def _initial(pairs: Iterable[tuple[str, str]]) -> str:
    joined = _joined(pairs)
    return f"elements = {{ {joined} }};" if joined else ""


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f'"{left}" . {right}' if left.startswith("sk") else f"{left} . {right}" for left, right in pairs)


def _pair(element: dict[str, Any]) -> tuple[str, str]:
    left, right = element["concat"]
    return str(left), _range(right)


def _range(value: str | dict[str, Any]) -> str:
    """`a.b.c.d`, or a prefix or range as the JSON of nft names it."""
    if isinstance(value, str):
        return value
    if "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return "-".join(value["range"])


def _collapsed(ranges: Sequence[str]) -> list[ipaddress.IPv4Network]:
    """Without overlaps, which the kernel's interval sets refuse."""
    networks: list[ipaddress.IPv4Network] = []
    for text in ranges:
        network = ipaddress.ip_network(text, strict=False)
        if not isinstance(network, ipaddress.IPv4Network):
            raise Invalid(f"{text}: only IPv4 ranges can be allowed", field="network.allow")
        networks.append(network)
    return list(ipaddress.collapse_addresses(networks))
