"""Which service to start, to restart, to wait for or to stop first: pure functions of what was declared, of states and
of times."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from skerry.model.service import RUNS, Restart, ServiceSpec, ServiceState

BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 60.0
"""One that never comes up costs one start a minute."""
STABLE_S = 30.0
"""One that ran so long is taken to have worked: its next end begins with the shortest wait again."""
START_S_MAX = 60.0
"""After which one that is still not healthy is called unhealthy."""
SETTLED_S = 0.5
"""One that cannot be looked at is healthy when it has run so long: most that cannot start end at once."""
STARTING_EVERY_S, STARTING_COMMAND_EVERY_S = 0.1, 1.0
"""Between looks at one that starts: others wait for it. A command costs a process, a connection next to nothing."""

Specs = Mapping[str, ServiceSpec]


@dataclass(frozen=True)
class Standing:
    state: ServiceState
    due_s: float = 0.0
    """Not to be started before this time."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of one that has ended."""

    state: ServiceState
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


def meets(spec: ServiceSpec, state: ServiceState) -> bool:
    """Whether those that need it may start."""
    return state is ServiceState.DONE or (state is ServiceState.HEALTHY and not spec.is_task)


def unmet(specs: Specs, standings: Mapping[str, Standing], name: str) -> list[str]:
    return [needed for needed in specs[name].needs if not meets(specs[needed], standings[needed].state)]


def to_start(specs: Specs, standings: Mapping[str, Standing], now_s: float) -> list[str]:
    return [
        name
        for name in in_order(specs)
        if standings[name].state in (ServiceState.WAITING, ServiceState.BACKING_OFF)
        and standings[name].due_s <= now_s
        and not unmet(specs, standings, name)
    ]


def to_stop(specs: Specs, left: Collection[str]) -> list[str]:
    """Of those that are left, the ones that none of the others needs."""
    needed = {need for name in left if name in specs for need in with_needs(specs, name) if need != name}
    return [name for name in left if name not in needed]


def backoff_s(failures: int) -> float:
    return min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** min(failures - 1, 30))


def after_end(spec: ServiceSpec, code: int | None, *, ran_s: float, failures: int) -> Outcome:
    """`code` is None for one whose end nobody saw: that is taken for a failure, since the work may not be done."""
    if code == 0 and spec.restart is not Restart.ALWAYS:
        return Outcome(ServiceState.DONE)
    if spec.restart is Restart.NEVER:
        return Outcome(ServiceState.FAILED)
    failures = 1 if ran_s >= STABLE_S else failures + 1
    return Outcome(ServiceState.BACKING_OFF, failures, backoff_s(failures))


def after_look(spec: ServiceSpec, state: ServiceState, *, well: bool, missed: int, ran_s: float) -> ServiceState:
    """`missed`: looks in a row that failed, this one too."""
    if state not in RUNS:
        return state
    if well:
        return ServiceState.HEALTHY
    looks = spec.looks
    retries = looks.retries if looks is not None else 1
    if state is ServiceState.STARTING:
        return ServiceState.UNHEALTHY if ran_s >= START_S_MAX else state
    return ServiceState.UNHEALTHY if missed >= retries else state


def look_again_s(spec: ServiceSpec, state: ServiceState) -> float | None:
    """How long until the next look; None: none is needed any more."""
    looks = spec.looks
    if looks is None:
        return SETTLED_S if state is ServiceState.STARTING else None
    if state is ServiceState.STARTING:
        return min(looks.interval, STARTING_EVERY_S if looks.command is None else STARTING_COMMAND_EVERY_S)
    return looks.interval


def must_restart(before: ServiceSpec, after: ServiceSpec) -> bool:
    """Whether what runs is not what is wanted any more; how it is looked at may change under it."""
    return any(
        getattr(before, field) != getattr(after, field) for field in ("command", "port", "env", "user", "workdir")
    )
