"""Which service to start, to restart, to wait for or to stop first: pure functions of what was declared, of states and
of times."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from skerry.model.guest_service import RUNS, GuestServiceSpec, GuestServiceState
from skerry.model.restart import backoff_s, failures_after

START_S_MAX = 60.0
"""After which one that is still not healthy is called unhealthy."""
SETTLED_S = 0.5
"""One that cannot be looked at is healthy when it has run so long: most that cannot start end at once."""
STARTING_EVERY_S, STARTING_COMMAND_EVERY_S = 0.1, 1.0
"""Between looks at one that starts: others wait for it. A command costs a process, a connection next to nothing."""

Specs = Mapping[str, GuestServiceSpec]


@dataclass(frozen=True)
class Standing:
    state: GuestServiceState
    due_s: float = 0.0
    """Not to be started before this time."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of one that has ended."""

    state: GuestServiceState
    failures: int = 0
    """Ends in a row, with no stable time between."""
    wait_s: float = 0.0


def in_order(specs: Specs) -> list[str]:
    """Each after what it needs, otherwise as declared."""
    found: dict[str, None] = {}
    for name in specs:
        _visit(specs, name, found)
    return list(found)


def with_needs(specs: Specs, name: str) -> list[str]:
    """All that must run for this one to run, in order, itself last."""
    found: dict[str, None] = {}
    _visit(specs, name, found)
    return list(found)


def _visit(specs: Specs, name: str, found: dict[str, None]) -> None:
    # Each once, whatever the number of ways that lead to it: there may be 2**30 of those.
    if name not in found:
        for needed in specs[name].needs:
            _visit(specs, needed, found)
        found[name] = None


def meets(spec: GuestServiceSpec, state: GuestServiceState) -> bool:
    """Whether those that need it may start."""
    return state is GuestServiceState.DONE or (state is GuestServiceState.HEALTHY and not spec.is_task)


def unmet(specs: Specs, standings: Mapping[str, Standing], name: str) -> list[str]:
    return [needed for needed in specs[name].needs if not meets(specs[needed], standings[needed].state)]


def to_start(specs: Specs, standings: Mapping[str, Standing], now_s: float) -> list[str]:
    return [
        name
        for name in in_order(specs)
        if standings[name].state in (GuestServiceState.WAITING, GuestServiceState.BACKING_OFF)
        and standings[name].due_s <= now_s
        and not unmet(specs, standings, name)
    ]


def to_stop(specs: Specs, left: Collection[str]) -> list[str]:
    """Of those that are left, the ones that none of the others needs."""
    needed = {need for name in left if name in specs for need in with_needs(specs, name) if need != name}
    return [name for name in left if name not in needed]


def after_end(spec: GuestServiceSpec, code: int | None, *, ran_s: float, failures: int) -> Outcome:
    """`code` is None for one whose end nobody saw."""
    now = failures_after(spec.restart, code, ran_s=ran_s, failures=failures)
    if now is None:
        return Outcome(GuestServiceState.DONE if code == 0 else GuestServiceState.FAILED)
    return Outcome(GuestServiceState.BACKING_OFF, now, backoff_s(now))


def after_look(
    spec: GuestServiceSpec, state: GuestServiceState, *, well: bool, missed: int, ran_s: float
) -> GuestServiceState:
    """`missed`: looks in a row that failed, this one too."""
    if state not in RUNS:
        return state
    if well:
        return GuestServiceState.HEALTHY
    looks = spec.looks
    retries = looks.retries if looks is not None else 1
    if state is GuestServiceState.STARTING:
        return GuestServiceState.UNHEALTHY if ran_s >= START_S_MAX else state
    return GuestServiceState.UNHEALTHY if missed >= retries else state


def look_again_s(spec: GuestServiceSpec, state: GuestServiceState) -> float | None:
    """How long until the next look; None: none is needed any more."""
    looks = spec.looks
    if looks is None:
        return SETTLED_S if state is GuestServiceState.STARTING else None
    if state is GuestServiceState.STARTING:
        return min(looks.interval, STARTING_EVERY_S if looks.command is None else STARTING_COMMAND_EVERY_S)
    return looks.interval


def must_restart(before: GuestServiceSpec, after: GuestServiceSpec) -> bool:
    """Whether what runs is not what is wanted any more; how it is looked at may change under it."""
    return any(
        getattr(before, field) != getattr(after, field) for field in ("command", "port", "env", "user", "workdir")
    )
