"""Calls about the cloud as a whole: operations, events, keys, nodes, and what the server is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, segment, waiting

if TYPE_CHECKING:
    from skerry.model.explanation import Explanation
    from skerry.model.key import NewKey
    from skerry.model.operation import Operation
    from skerry.model.usage import Usage


def operation(ref: str, wait_s: float = 0) -> Call[Operation]:
    query = {"wait_s": wait_s} if wait_s else {}
    return Call("GET", f"/v1/operations/{segment(ref)}", parse.operation, query=query, reply_s=waiting(wait_s))


def watch_operation(ref: str) -> Call[Any]:
    """Lines: the operation on each change, until it is final."""
    return Call("GET", f"/v1/operations/{segment(ref)}/watch", parse.operation, reply_s=None)


def operations(
    *,
    target: str | None = None,
    state: str | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {"target": target, "state": state, "limit": limit, "page_token": page_token}
    return Call("GET", "/v1/operations", parse.anything, query=query)


def events(
    *,
    target: str | None = None,
    noun: str | None = None,
    after: int | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {"target": target, "noun": noun, "after": after, "limit": limit, "page_token": page_token}
    return Call("GET", "/v1/events", parse.anything, query=query)


def watch_events(*, target: str | None = None, noun: str | None = None, after: int | None = None) -> Call[Any]:
    query = {"target": target, "noun": noun, "after": after, "watch": True}
    return Call("GET", "/v1/events", parse.event, query=query, reply_s=None)


def create_key(name: str) -> Call[NewKey]:
    return Call("POST", "/v1/keys", parse.new_key, body={"name": name})


def keys(*, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    return Call("GET", "/v1/keys", parse.anything, query={"limit": limit, "page_token": page_token})


def delete_key(ref: str) -> Call[Any]:
    return Call("DELETE", f"/v1/keys/{segment(ref)}", parse.anything)


def explain(ref: str) -> Call[Explanation]:
    """Of a sandbox, a job or a service."""
    return Call("GET", f"/v1/explain/{segment(ref)}", parse.explanation)


def usage(by: str = "project", since: str | None = None, project: str | None = None) -> Call[Usage]:
    """`since`: a time as ISO 8601 writes it; None: 30 days ago."""
    return Call("GET", "/v1/usage", parse.usage, query={"by": by, "since": since, "project": project})


def info() -> Call[Any]:
    return Call("GET", "/v1/info", parse.anything)


def health() -> Call[Any]:
    return Call("GET", "/health", parse.anything)
