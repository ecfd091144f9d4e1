"""Whether packets of sandboxes get through this host: forwarding, and other software's rules that drop them."""

from __future__ import annotations

import json
from typing import Any

from skerry.cli.checks.finding import Finding, ok, warn
from skerry.cli.checks.host import Host

SUBNET = "10.201.0.0/16"
MEND = {
    "docker": (
        f"iptables -I DOCKER-USER -s {SUBNET} -j ACCEPT && "
        f"iptables -I DOCKER-USER -d {SUBNET} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    ),
    "firewalld": f"firewall-cmd --permanent --zone=trusted --add-source={SUBNET} && firewall-cmd --reload",
    "other": f"iptables -I FORWARD -s {SUBNET} -j ACCEPT && iptables -I FORWARD -d {SUBNET} -j ACCEPT",
}


def look(host: Host) -> list[Finding]:
    return [_switch(host), _rules(host)]


def _switch(host: Host) -> Finding:
    if (host.text("/proc/sys/net/ipv4/ip_forward") or "").strip() == "1":
        return ok("forwarding", "on")
    return warn("forwarding", "off; skerry serve switches it on", "sysctl -w net.ipv4.ip_forward=1")


def _rules(host: Host) -> Finding:
    told = host.output("nft", "--json", "list", "ruleset")
    if told is None:
        return warn("firewall", "nft cannot list the rules of this host", "apt-get install -y nftables; as root")
    owner = _who_drops(json.loads(told or '{"nftables": []}'))
    if owner is None:
        return ok("firewall", "nobody else drops forwarded packets")
    return warn("firewall", f"rules of {owner} may drop what sandboxes send", MEND[owner])


def _who_drops(ruleset: dict[str, Any]) -> str | None:
    chains = [item["chain"] for item in ruleset["nftables"] if "chain" in item]
    tables = {chain["table"] for chain in chains}
    if "firewalld" in tables:
        return "firewalld"
    for chain in chains:
        foreign = not chain["table"].startswith("skerry_")
        if foreign and chain.get("hook") == "forward" and chain.get("policy") == "drop":
            return "docker" if any(each["name"] == "DOCKER-USER" for each in chains) else "other"
    return None
