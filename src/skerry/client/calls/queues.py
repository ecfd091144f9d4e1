"""Calls about queues, and the words in which a user may declare one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from skerry.client import parse
from skerry.client.call import Call, label_query, segment
from skerry.client.calls.sandboxes import plain

if TYPE_CHECKING:
    from skerry.model.queue import Preemption, Queue, QueueWithUse, Quota

QUEUES = "/v1/queues"
NO_LIMIT = frozenset({"aging_s", "half_life_s", "running_max", "max_duration"})
"""Fields in which None is a value: there is no limit."""


class QueueOptions(TypedDict, total=False):
    """The fields of QueueSpec besides its name."""

    nodes: Mapping[str, str | Sequence[str]] | None
    """Labels of the nodes that are its members: {"rack": ["a", "b"]}."""
    policy: str | None
    """fifo, priority or fair-share."""
    strategy: str | None
    """pack, spread, fragmentation or auto."""
    backfill: bool | None
    aging_s: float | str | None
    half_life_s: float | str | None
    small_share: float | None
    pending_max: int | None
    running_max: int | None
    max_duration: float | str | None
    quotas: Sequence[Quota | Mapping[str, Any]] | None
    preemption: Preemption | Mapping[str, Any] | None
    cpu_overcommit: Mapping[str, float] | None
    """By tier."""
    memory_overcommit: Mapping[str, float] | None
    labels: Mapping[str, str] | None


def body_of(options: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in options.items():
        if name == "quotas" and value is not None:
            body[name] = [plain(each) for each in value]
        else:
            body[name] = dict(value) if isinstance(value, Mapping) else plain(value)  # pyright: ignore[reportUnknownArgumentType]
    return body


def create(name: str, options: Mapping[str, Any]) -> Call[Queue]:
    given = {field: value for field, value in body_of(options).items() if value is not None or field in NO_LIMIT}
    return Call("POST", QUEUES, parse.queue, body={"name": name, **given})


def list_page(
    *, labels: Mapping[str, str] | None = None, limit: int | None = None, page_token: str | None = None
) -> Call[Any]:
    query = {
        "label": label_query(labels),
        "limit": limit,
        "page_token": page_token,
    }
    return Call("GET", QUEUES, parse.anything, query=query)


def get(ref: str) -> Call[QueueWithUse]:
    return Call("GET", f"{QUEUES}/{segment(ref)}", parse.queue_with_use)


def update(ref: str, options: Mapping[str, Any]) -> Call[Queue]:
    """None that was given is told: in some fields it means that there is no limit."""
    return Call("PATCH", f"{QUEUES}/{segment(ref)}", parse.queue, body=body_of(options))


def delete(ref: str) -> Call[Any]:
    return Call("DELETE", f"{QUEUES}/{segment(ref)}", parse.anything)
