"""What takes more than one call, written once: a generator yields calls, is sent replies, and returns JSON.

A transport runs it (`Transport.run`, `AsyncTransport.run`); nothing here knows which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from skerry.client.call import Call, Reply
from skerry.client.calls import cloud
from skerry.errors import Conflict, DeadlineExceeded, Failed

T = TypeVar("T")
Flow = Generator[Call[Any], Reply, T]

WAIT_STEP_S = 60.0
"""Asked of the server at a time: short enough for any proxy between us to keep the connection."""
PAGE_ITEMS = 500
LIST_ITEMS_MAX = 100_000
TIMEOUT_S = 600.0


def settle(
    make: Callable[[float], Call[Any]],
    again: Callable[[Any], Call[Any]] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    now: Callable[[], float] = time.monotonic,
) -> Flow[Any]:
    """Send `make(wait_s)`, wait until the work it began has ended, and return the object as it is then.

    `again(body)` reads the object anew; None where it will be gone. Raises Failed with the server's reason, and
    Conflict when someone else deleted the object meanwhile.
    """
    deadline = now() + timeout_s
    reply = yield make(min(timeout_s, WAIT_STEP_S))
    if reply.status == 202 and reply.body is not None:
        if reply.body.get("operation"):
            yield from finish(reply.body["operation"], deadline_s=deadline, now=now)
        if again is None:
            return reply.body
        reply = yield again(reply.body)
    if reply.body is not None:
        _refuse_failed(reply.body)
        if again is not None:
            _refuse_gone(reply.body)
    return reply.body


def settle_all(
    make: Callable[[float], Call[Any]],
    again: Callable[[str], Call[Any]],
    *,
    timeout_s: float = TIMEOUT_S,
    now: Callable[[], float] = time.monotonic,
) -> Flow[list[Any]]:
    """The same for a call that answers with several objects; each is read anew by its id."""
    deadline = now() + timeout_s
    reply = yield make(min(timeout_s, WAIT_STEP_S))
    items: list[Any] = reply.body["items"]
    if reply.status == 202:
        for operation in dict.fromkeys(item["operation"] for item in items if item.get("operation")):
            yield from finish(operation, deadline_s=deadline, now=now)
        fresh: list[Any] = []
        for item in items:
            fresh.append((yield again(item["id"])).body)
        items = fresh
    for item in items:
        _refuse_failed(item)
        _refuse_gone(item)
    return items


def _refuse_failed(body: Any) -> None:
    if body.get("state") != "failed":
        return
    name = body.get("name") or body.get("id") or "it"
    raise Failed(f"{name} failed: {body.get('reason') or 'the server gives no reason'}")


def _refuse_gone(body: Any) -> None:
    if body.get("state") in ("deleting", "deleted"):
        raise Conflict(f"{body.get('name') or body.get('id') or 'it'} was deleted meanwhile")


def finish(operation: str, *, deadline_s: float, now: Callable[[], float] = time.monotonic) -> Flow[Any]:
    """Wait for one operation until `deadline_s` on the clock `now`."""
    while True:
        left_s = deadline_s - now()
        reply = yield cloud.operation(operation, wait_s=max(0.0, min(left_s, WAIT_STEP_S)))
        state = reply.body.get("state")
        if state == "failed":
            raise Failed(reply.body.get("error") or f"operation {operation} failed; the server gives no reason")
        if state == "succeeded":
            return reply.body
        if left_s <= 0:
            raise DeadlineExceeded(f"still going on; see it with `skerry operation watch {operation}`")


def gather(make: Callable[[str | None], Call[Any]], items_max: int = LIST_ITEMS_MAX) -> Flow[list[Any]]:
    """Every item of a paged list, at most `items_max`."""
    items: list[Any] = []
    token: str | None = None
    while True:
        reply = yield make(token)
        items += reply.body["items"]
        token = reply.body.get("next_page_token")
        if not token or len(items) >= items_max:
            return items[:items_max]
