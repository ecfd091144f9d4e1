"""Calls about nodes: see them, label and taint them, and say whether they take work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, label_query, segment

if TYPE_CHECKING:
    from skerry.model.node import Node, NodeWithUse

NODES = "/v1/nodes"


def list_page(
    *, labels: Mapping[str, str] | None = None, limit: int | None = None, page_token: str | None = None
) -> Call[Any]:
    query = {
        "label": label_query(labels),
        "limit": limit,
        "page_token": page_token,
    }
    return Call("GET", NODES, parse.anything, query=query)


def get(ref: str) -> Call[NodeWithUse]:
    return Call("GET", f"{NODES}/{segment(ref)}", parse.node_with_use)


def update(
    ref: str, *, labels: Mapping[str, str | None] | None = None, taints: Mapping[str, str | None] | None = None
) -> Call[Node]:
    """None takes a label or a taint away."""
    body = {"labels": dict(labels or {}), "taints": dict(taints or {})}
    return Call("PATCH", f"{NODES}/{segment(ref)}", parse.node, body=body)


def act(ref: str, verb: str) -> Call[Node]:
    """cordon, uncordon or drain."""
    return Call("POST", f"{NODES}/{segment(ref)}/{verb}", parse.node)
