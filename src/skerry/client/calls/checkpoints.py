"""Calls about checkpoints: one sandbox's disk at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, segment, waiting
from skerry.client.calls import sandboxes

if TYPE_CHECKING:
    from skerry.model.checkpoint import Checkpoint, Diff


def path(ref: str, *rest: str) -> str:
    return sandboxes.path(ref, "checkpoints", *rest)


def create(ref: str, comment: str = "", wait_s: float = 0) -> Call[Checkpoint]:
    body, query = {"comment": comment}, {"wait_s": wait_s}
    return Call("POST", path(ref), parse.checkpoint, query=query, body=body, reply_s=waiting(wait_s))


def list_page(ref: str, *, limit: int | None = None, page_token: str | None = None) -> Call[Any]:
    return Call("GET", path(ref), parse.anything, query={"limit": limit, "page_token": page_token})


def get(ref: str, checkpoint: str) -> Call[Checkpoint]:
    return Call("GET", path(ref, segment(checkpoint)), parse.checkpoint)


def delete(ref: str, checkpoint: str, wait_s: float = 0) -> Call[Any]:
    query = {"wait_s": wait_s}
    return Call("DELETE", path(ref, segment(checkpoint)), parse.anything, query=query, reply_s=waiting(wait_s))


def diff(ref: str, checkpoint: str, to: str | None = None) -> Call[Diff]:
    """`to` None: what changed from the checkpoint to the sandbox as it is now."""
    return Call("GET", path(ref, segment(checkpoint), "diff"), parse.diff, query={"to": to}, reply_s=600.0)
