"""Sleep: when a sandbox falls asleep, how deeply, what keeps it awake, and what its machine says of all that."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from skerry.model.fields import Duration, Frozen, parse_duration

LEASES_MAX = 32
LEASE_S_MAX = 86_400.0
NOTE_MAX = 256
SLEEP_AFTER_S_MIN, SLEEP_AFTER_S_MAX = 1.0, 31_536_000.0


def _sleep_after(value: Any) -> Any:
    """One error for either form: pydantic would give one for each part of the union."""
    if value == "never":
        return value
    after_s = parse_duration(value) if isinstance(value, str) else value
    if isinstance(after_s, bool) or not isinstance(after_s, int | float):
        raise ValueError("expected seconds, a time such as 30s or 10m, or never")
    if not SLEEP_AFTER_S_MIN <= after_s <= SLEEP_AFTER_S_MAX:
        raise ValueError("expected between 1 second and 365 days, or never")
    return float(after_s)


SleepAfter = Annotated[float | Literal["never"], BeforeValidator(_sleep_after)]
"""Seconds, text such as 30s or 10m, or `never`."""


class Tier(StrEnum):
    WARM = "warm"  # frozen: no cpu, memory kept, awake again within milliseconds
    COLD = "cold"  # stopped: disk kept, memory given back; its command starts again when it wakes


class Asleep(Frozen):
    tier: Tier
    since: datetime
    why: str
    """What put it to sleep: `idle for 30s`, `asked`, `reboot`."""


class SleepRequest(Frozen):
    tier: Tier = Tier.WARM
    force: bool = False
    """Even while a lease or a command keeps it awake: the command stands still until somebody wakes the sandbox."""


class LeaseRequest(Frozen):
    """Keep a sandbox awake for a while, whatever else it does or does not do."""

    for_s: Annotated[Duration, Field(gt=0, le=LEASE_S_MAX)] = 600.0
    """Seconds, or text such as 10m; at most a day, so that no forgotten lease keeps it awake for good."""
    note: Annotated[str, Field(max_length=NOTE_MAX)] = ""
    """Shown to who asks why it is awake."""


class Lease(Frozen):
    id: str
    note: str
    until: datetime


class Activity(Frozen):
    """What one machine knows of a sandbox's being awake; asked live, never stored."""

    asleep: Asleep | None
    """None: it is awake, or does not run at all."""
    kept_awake_by: list[str]
    """Everything that forbids it to sleep now, in words: `exec ex-12ab: make`, `lease: nightly build`."""
    leases: list[Lease]
    last_active_at: datetime | None
    last_active_by: str | None
    """What the newest activity was: `exec`, `terminal`, `files`, `http 8080`, `tcp 5432`, `cpu`."""
    woken_at: datetime | None
    woken_by: str | None
    sleeps_at: datetime | None
    """When it falls asleep if nothing more happens; None: never, or not while it is kept awake."""
    cold_at: datetime | None
    """When one that sleeps warm goes cold; None: never."""
