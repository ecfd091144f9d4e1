"""Tables of other Skerrys of this machine that have our addresses: each drops what is not from its own sandboxes."""

from __future__ import annotations

import ipaddress
import socket

from skerry.agent.nftables import Nftables
from skerry.errors import Failed

PREFIX = "skerry_"


def clear_the_way(nft: Nftables, own_table: str, subnet: ipaddress.IPv4Network) -> list[str]:
    """Takes away the tables of those that have no link left, and returns their names: their data folder is gone, or
    the machine's sandboxes died with it. Raises Failed where one still has links, which are its sandboxes'."""
    gone: list[str] = []
    links = [name for _, name in socket.if_nameindex()]
    for name in _tables(nft):
        if name == own_table or not _is_about(nft, name, subnet):
            continue
        instance = name.removeprefix(PREFIX)
        if any(link.startswith(f"sk{instance}-") for link in links):
            raise Failed(
                f"network_subnet: {subnet} is in use by another Skerry on this machine; give this one another range",
                because=f"table {name} and its links",
            )
        nft.run(f"delete table inet {name}\n")
        gone.append(name)
    return gone


def _tables(nft: Nftables) -> list[str]:
    names = [item["table"]["name"] for item in nft.listing("list tables inet") if "table" in item]
    return [name for name in names if name.startswith(PREFIX)]


def _is_about(nft: Nftables, table: str, subnet: ipaddress.IPv4Network) -> bool:
    """By the range that its chain of translated addresses names."""
    for item in nft.listing(f"list chain inet {table} leave_host"):
        for part in item.get("rule", {}).get("expr", ()):
            right = part.get("match", {}).get("right")
            if isinstance(right, dict) and "prefix" in right:
                theirs = ipaddress.IPv4Network(f"{right['prefix']['addr']}/{right['prefix']['len']}")
                return theirs.overlaps(subnet)
    return False
