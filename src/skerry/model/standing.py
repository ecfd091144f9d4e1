"""How a sandbox is doing as a whole, and whether what somebody waits for has come or can come no more.

Pure, and without pydantic: it takes the JSON of a sandbox, so that the command line judges by it as the server does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class Standing(NamedTuple):
    state: str
    """`starting`, `healthy`, `unhealthy` or `ended`."""
    reason: str | None = None
    final: bool = False
    """It stays so until somebody does something about it."""


class Wish(StrEnum):
    RUNNING = "running"
    HEALTHY = "healthy"
    STOPPED = "stopped"


class Outlook(NamedTuple):
    met: bool
    never: str | None = None
    """Why it can come no more by itself."""


_COMING = frozenset({"pending", "starting", "restoring"})
_THERE = frozenset({"running", "asleep"})


def standing(sandbox: Mapping[str, Any]) -> Standing:
    """By its own health where it declares one, else by its services; without either it is healthy while it runs. One
    that sleeps is as it was, and one that sleeps cold is well: whoever wants it has it started."""
    state, spec = sandbox["state"], sandbox["spec"]
    asleep: Any = sandbox.get("asleep")
    if state in _COMING:
        return Standing("starting", sandbox.get("reason"))
    if state not in _THERE:
        return Standing("ended", _how_it_ended(sandbox), final=True)
    if state == "asleep" and asleep and asleep["tier"] == "cold":
        return Standing("healthy")
    if spec.get("health"):
        found = sandbox.get("health")
        return Standing(found["state"], found.get("reason")) if found else Standing("starting")
    return _of_services(spec.get("services") or {}, sandbox.get("services") or ())


def outlook(sandbox: Mapping[str, Any], wish: Wish) -> Outlook:
    found = standing(sandbox)
    if wish is Wish.STOPPED:
        gone = sandbox["state"] in ("failed", "deleting", "deleted")
        return Outlook(sandbox["state"] == "stopped", found.reason if gone else None)
    if wish is Wish.RUNNING:
        return Outlook(sandbox["state"] in _THERE, found.reason if found.state == "ended" else None)
    return Outlook(found.state == "healthy", (found.reason or found.state) if found.final else None)


def _how_it_ended(sandbox: Mapping[str, Any]) -> str:
    state: str = sandbox["state"]
    end: Any = sandbox.get("exit")
    if state == "failed":
        return f"it failed: {sandbox.get('reason') or 'the server gives no reason'}"
    if state == "stopped" and end and end["code"] is not None:
        return f"it is stopped: {end['reason']} with code {end['code']}"
    return f"it is {state}"


def _of_services(specs: Mapping[str, Any], statuses: Any) -> Standing:
    """Healthy when all are, or have done what they were for."""
    known = {status["name"]: status for status in statuses}
    worst = Standing("healthy")
    for name in specs:
        status = known.get(name)
        state = status["state"] if status else "starting"
        reason = f"service {name} is {state}" + (f": {status['reason']}" if status and status.get("reason") else "")
        if state in ("failed", "stopped"):
            return Standing("unhealthy", reason, final=True)
        if state in ("unhealthy", "backing-off"):
            worst = Standing("unhealthy", reason)
        elif state in ("starting", "waiting") and worst.state == "healthy":
            worst = Standing("starting", reason)
    return worst
