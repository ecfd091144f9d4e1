"""Calls about private networks: make one, see them, see who is in one, delete; joining as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, label_query, segment

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


def create(
    name: str, subnet: str, *, internal: bool = False, labels: Mapping[str, str] | None = None
) -> Call[PrivateNetwork]:
    body = {"name": name, "subnet": subnet, "internal": internal, **({"labels": dict(labels)} if labels else {})}
    return Call("POST", NETWORKS, parse.network, body=body)


def list_page(
    *, labels: Mapping[str, str] | None = None, limit: int | None = None, page_token: str | None = None
) -> Call[Any]:
    wanted = label_query(labels)
    query = {"label": wanted, "limit": limit, "page_token": page_token}
    return Call("GET", NETWORKS, parse.anything, query=query)


def get(ref: str) -> Call[NetworkWithMembers]:
    return Call("GET", f"{NETWORKS}/{segment(ref)}", parse.network_with_members)


def delete(ref: str) -> Call[Any]:
    return Call("DELETE", f"{NETWORKS}/{segment(ref)}", parse.anything)
