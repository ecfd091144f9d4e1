"""What takes more than one call, written once: a generator yields calls, is sent replies, and returns JSON.

A transport runs it (`Transport.run`, `AsyncTransport.run`); nothing here knows which.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, TypeVar

from skerry.client.call import Call, Pause, Reply
from skerry.client.calls import cloud, sandboxes
from skerry.errors import Conflict, DeadlineExceeded, Failed, RestartNeeded, SkerryError, Unavailable
from skerry.model.standing import Wish, outlook, standing

T = TypeVar("T")
Flow = Generator[Call[Any] | Pause, Reply, T]

WAIT_STEP_S = 60.0
"""Asked of the server at a time: short enough for any proxy between us to keep the connection."""
PAGE_ITEMS = 500
LIST_ITEMS_MAX = 100_000
TIMEOUT_S = 600.0
AWAY_S_MAX = 600.0
"""For so long whoever waits for an end puts up with a server that cannot be reached."""
AWAY_PAUSE_S = 0.5


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


def update(
    ref: str,
    change: Mapping[str, Any],
    *,
    reload_too: bool = False,
    grace_s: float | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Flow[Any]:
    """The sandbox with the change. `reload_too`: should it take a restart, that is made; else RestartNeeded says so."""
    try:
        return (yield sandboxes.update(ref, change)).body
    except RestartNeeded:  # of a change that is good otherwise: a bad one is refused while it runs
        if not reload_too:
            raise
    return (yield from reload(ref, change, grace_s=grace_s, timeout_s=timeout_s))


def reload(
    ref: str, change: Mapping[str, Any] | None = None, *, grace_s: float | None = None, timeout_s: float = TIMEOUT_S
) -> Flow[Any]:
    """Stop it, change it if that is wanted, start it. Each step may be repeated; a failure says how far it came."""
    body = (yield sandboxes.get(ref)).body
    ref, name = body["id"], body["name"]
    again = sandboxes.get(ref)
    if body["state"] not in ("stopped", "failed"):
        yield from settle(lambda wait_s: sandboxes.stop(ref, grace_s, wait_s), lambda _: again, timeout_s=timeout_s)
    done = "stopped"
    try:
        if change:
            name = (yield sandboxes.update(ref, change)).body["name"]
            done = "stopped and updated"
        return (yield from settle(lambda wait_s: sandboxes.start(ref, wait_s), lambda _: again, timeout_s=timeout_s))
    except SkerryError as error:
        say = f"{error.say}; {name} was {done}: when that is mended, start it with `skerry start {name}`"
        raise type(error)(say, because=error.because, field=error.field, retry_after_s=error.retry_after_s) from None


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


def reach(
    make: Callable[[float], Call[Any]],
    wish: str,
    *,
    timeout_s: float = TIMEOUT_S,
    now: Callable[[], float] = time.monotonic,
) -> Flow[Any]:
    """Ask `make(wait_s)` for a sandbox until it is as wished. Raises Failed when that can come no more by itself."""
    deadline_s = now() + timeout_s
    while True:
        left_s = deadline_s - now()
        body = (yield make(max(0.0, min(left_s, WAIT_STEP_S)))).body
        seen = outlook(body, Wish(wish))
        if seen.met:
            return body
        if seen.never is not None:
            raise Failed(f"{body['name']} will not be {wish}: {seen.never}")
        if left_s <= 0:
            reason = standing(body).reason
            raise DeadlineExceeded(f"{body['name']} is not {wish} yet" + (f": {reason}" if reason else ""))


def end(
    make: Callable[[float], Call[Any]],
    final: Collection[str],
    *,
    timeout_s: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Flow[Any]:
    """Ask `make(wait_s)` for an object until its state is one of `final`. `timeout_s` None: however long it takes. A
    server that is there at first may go away for a while, as when it is updated."""
    deadline_s = math.inf if timeout_s is None else now() + timeout_s
    body = (yield make(0.0)).body
    while body["state"] not in final:
        left_s = deadline_s - now()
        if left_s <= 0:
            raise DeadlineExceeded(f"{body['name']} has not ended yet: it is {body['state']}")
        body = yield from patiently(make(min(left_s, WAIT_STEP_S)), away_s_max=min(left_s, AWAY_S_MAX), now=now)
    return body


def patiently(
    call: Call[Any], *, away_s_max: float = AWAY_S_MAX, now: Callable[[], float] = time.monotonic
) -> Flow[Any]:
    """The answer to what may be asked twice, once the server is there."""
    away_since_s: float | None = None
    while True:
        try:
            return (yield call).body
        except Unavailable:
            away_since_s = now() if away_since_s is None else away_since_s
            if now() - away_since_s >= away_s_max:
                raise
        yield Pause(AWAY_PAUSE_S)


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
