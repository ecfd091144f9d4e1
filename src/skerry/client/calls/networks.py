"""Calls about private networks: make one, see them, see who is in one, delete; joining as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, segment

if TYPE_CHECKING:
    from skerry.model.network import NetworkWithMembers, PrivateNetwork

NETWORKS = "/v1/networks"


def join_from_text(text: str) -> dict[str, Any]:
    """NETWORK[:ADDRESS] -> the fields of Join."""
    name, colon, address = text.partition(":")
    return {"name": name, "address": address} if colon else {"name": name}


def text_of(join: Any) -> str:
    """The JSON of a Join or a Membership as people write it."""
    return f"{join['name']}:{join['address']}" if join.get("address") else join["name"]


def create(name: str, subnet: str, *, internal: bool = False) -> Call[PrivateNetwork]:
    return Call("POST", NETWORKS, parse.network, body={"name": name, "subnet": subnet, "internal": internal})


def list_page(*, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    return Call("GET", NETWORKS, parse.anything, query={"limit": limit, "page_token": page_token})


def get(ref: str) -> Call[NetworkWithMembers]:
    return Call("GET", f"{NETWORKS}/{segment(ref)}", parse.network_with_members)


def delete(ref: str) -> Call[Any]:
    return Call("DELETE", f"{NETWORKS}/{segment(ref)}", parse.anything)
