"""Calls about volumes: make one, empty or as a copy, see them, resize or label, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, label_query, segment, waiting

if TYPE_CHECKING:
    from skerry.model.volume import Volume

VOLUMES = "/v1/volumes"


def create(
    name: str,
    *,
    size: int | str | None = None,
    labels: Mapping[str, str] | None = None,
    source: str | None = None,
    readonly: bool = False,
    wait_s: float = 0,
) -> Call[Volume]:
    given = {"size": size, "labels": dict(labels) if labels else None, "source": source, "readonly": readonly or None}
    body = {"name": name, **{key: value for key, value in given.items() if value is not None}}
    return Call("POST", VOLUMES, parse.volume, query={"wait_s": wait_s}, body=body, reply_s=waiting(wait_s))


def list_page(
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    limit: int | None = None,
    page_token: str | None = None,
) -> Call[Any]:
    query = {"label": label_query(labels), "name": name, "limit": limit, "page_token": page_token}
    return Call("GET", VOLUMES, parse.anything, query=query)


def get(ref: str) -> Call[Volume]:
    return Call("GET", f"{VOLUMES}/{segment(ref)}", parse.volume)


def update(
    ref: str, *, size: int | str | None = None, labels: Mapping[str, str] | None = None, wait_s: float = 0
) -> Call[Volume]:
    given = {"size": size, "labels": dict(labels) if labels is not None else None}
    body = {key: value for key, value in given.items() if value is not None}
    path, query = f"{VOLUMES}/{segment(ref)}", {"wait_s": wait_s}
    return Call("PATCH", path, parse.volume, query=query, body=body, reply_s=waiting(wait_s))


def delete(ref: str, wait_s: float = 0) -> Call[Any]:
    path = f"{VOLUMES}/{segment(ref)}"
    return Call("DELETE", path, parse.anything, query={"wait_s": wait_s}, reply_s=waiting(wait_s))
