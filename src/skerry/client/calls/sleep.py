"""Calls about sleep: put a sandbox to sleep, wake it, keep it awake, ask why it is awake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.client import parse
from skerry.client.call import Call, segment
from skerry.client.calls.sandboxes import path

if TYPE_CHECKING:
    from skerry.model.sandbox import Sandbox
    from skerry.model.sleep import Activity, Lease

REPLY_S = 60.0
"""Going cold waits for the main process to end; waking from it starts that again."""


def sleep(ref: str, *, cold: bool = False, force: bool = False) -> Call[Sandbox]:
    body = {"tier": "cold" if cold else "warm", "force": force}
    return Call("POST", path(ref, "sleep"), parse.sandbox, body=body, reply_s=REPLY_S)


def wake(ref: str) -> Call[Sandbox]:
    return Call("POST", path(ref, "wake"), parse.sandbox, reply_s=REPLY_S)


def activity(ref: str) -> Call[Activity]:
    return Call("GET", path(ref, "activity"), parse.activity)


def keep_awake(ref: str, for_s: float | None = None, note: str = "") -> Call[Lease]:
    body: dict[str, object] = {"note": note} if for_s is None else {"for_s": for_s, "note": note}
    return Call("POST", path(ref, "leases"), parse.lease, body=body, reply_s=REPLY_S)


def end_lease(ref: str, lease: str) -> Call[Lease]:
    return Call("DELETE", path(ref, "leases", segment(lease)), parse.lease)
