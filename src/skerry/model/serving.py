"""Whether a replica can do its work and whether a service can serve, from what is known of its sandboxes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from skerry.model.guest_service import HealthState
from skerry.model.replica import Role
from skerry.model.rollout import Rollout
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Health, Replica, Service, Slot

START_QUANTILE = 0.9
CRASHES_MAX = 3
"""Ends in a row with no stable time between: it is not going to be healthy by itself."""
OVER = frozenset({S.STOPPED, S.FAILED, S.DELETING, S.DELETED})


@dataclass(frozen=True)
class Standing:
    health: Health
    reason: str | None = None
    until: datetime | None = None
    """When this changes though nothing happens."""


def standing(box: Sandbox, now: datetime) -> Standing:
    """Of a replica."""
    replica = box.replica
    assert replica is not None
    match box.state:
        case S.PENDING | S.RESTORING:
            return Standing(Health.PROVISIONING, "it waits for a place")
        case S.STARTING:
            crashing = box.failures >= CRASHES_MAX
            return Standing(Health.UNHEALTHY if crashing else Health.PROVISIONING, box.reason)
        case S.RUNNING | S.ASLEEP:
            return _of_running(box, now)
        case _:
            return Standing(Health.UNHEALTHY, box.reason or f"its sandbox is {box.state.value}")


def _of_running(box: Sandbox, now: datetime) -> Standing:
    replica, told = box.replica, box.health
    assert replica is not None
    if told is not None and told.state is HealthState.HEALTHY:
        return Standing(Health.HEALTHY)
    began = box.started_at or now
    deadline = began + timedelta(seconds=replica.ready_s)
    was_healthy = replica.healthy_at is not None and replica.healthy_at >= began
    if told is not None and told.state is HealthState.UNHEALTHY and (was_healthy or now >= deadline):
        return Standing(Health.UNHEALTHY, told.reason)
    if box.state is S.ASLEEP and was_healthy:
        return Standing(Health.HEALTHY)
    if now >= deadline:
        return Standing(Health.UNHEALTHY, f"it was not healthy within {replica.ready_s:g} s of its start")
    if box.failures >= CRASHES_MAX:
        return Standing(Health.UNHEALTHY, f"its command has ended {box.failures} times in a row", deadline)
    return Standing(Health.PROVISIONING, "it starts", deadline)


def is_serving(box: Sandbox, now: datetime) -> bool:
    """Whether it may be given requests, as far as it is concerned."""
    replica = box.replica
    return (
        replica is not None
        and replica.draining_at is None
        and not replica.parked
        and box.address is not None
        and standing(box, now).health is Health.HEALTHY
    )


def groups(service: Service) -> dict[Role, int]:
    """How many replicas of which role it is to have."""
    if service.spec.addresses:
        return {}
    return dict(service.spec.roles) or {Role.BOTH: service.wanted}


def slot_of(service: Service, revision: int) -> Slot:
    """Of one that waits to be promoted, staging; all else is in production."""
    rollout = service.rollout
    staged = rollout is not None and rollout.is_staged and revision == rollout.revision
    return Slot.STAGING if staged else Slot.PRODUCTION


def weights(service: Service, boxes: Sequence[Sandbox], now: datetime) -> dict[str, float]:
    """id -> share of the traffic of each that gets any, 0 to 1; by roles these are shares of the role's."""
    serving = [box for box in boxes if is_serving(box, now)]
    production = [box for box in serving if box.replica and slot_of(service, box.replica.revision) is Slot.PRODUCTION]
    staging = [box for box in serving if box not in production]
    canary = service.rollout is not None and service.rollout.type is Rollout.CANARY and bool(staging)
    share = service.spec.strategy.weight / 100 if canary and production else 0.0
    found = {box.id: (1 - share) / _alike(box, production) for box in production}
    if canary and share:
        found |= {box.id: share / _alike(box, staging) for box in staging}
    return found


def _alike(box: Sandbox, others: Sequence[Sandbox]) -> int:
    assert box.replica is not None
    return sum(each.replica is not None and each.replica.role is box.replica.role for each in others)


def start_s(service: Service) -> float | None:
    """In which most of its new replicas were healthy; None: it has had none yet."""
    ordered = sorted(service.starts_s)
    return ordered[math.ceil(len(ordered) * START_QUANTILE) - 1] if ordered else None


@dataclass(frozen=True)
class Answer:
    """Can it serve."""

    health: Health
    reason: str | None = None
    ready: int = 0
    """Replicas that are healthy, and in production."""


def status_of(service: Service, boxes: Sequence[Sandbox], now: datetime) -> Answer:
    if service.spec.addresses:
        return Answer(Health.HEALTHY)
    wanted = groups(service)
    total = sum(wanted.values())
    if not total:
        if service.spec.scaling is not None:
            return Answer(Health.HEALTHY, "it sleeps: the next request wakes it")
        return Answer(Health.UNHEALTHY, "it is scaled to 0: give it replicas with: skerry service scale")
    mine = [
        box
        for box in boxes
        if box.replica is not None
        and box.replica.draining_at is None
        and not box.replica.parked
        and slot_of(service, box.replica.revision) is Slot.PRODUCTION
    ]
    healths = [(box, standing(box, now)) for box in mine]
    ready = dict.fromkeys(wanted, 0)
    for box, found in healths:
        if found.health is Health.HEALTHY and box.replica is not None and box.replica.role in ready:
            ready[box.replica.role] += 1
    if all(ready[role] >= wanted[role] for role in wanted):
        return Answer(Health.HEALTHY, ready=sum(ready.values()))
    bad = next((found.reason for _, found in healths if found.health is Health.UNHEALTHY), None)
    if all(ready[role] for role in wanted if wanted[role]):
        said = f"{sum(ready.values())} of {total} replicas are healthy" + (f"; {bad}" if bad else "")
        return Answer(Health.DEGRADED, said, sum(ready.values()))
    if bad is not None:
        return Answer(Health.UNHEALTHY, bad, sum(ready.values()))
    if service.failures:
        return Answer(Health.UNHEALTHY, service.failure)
    waits = next((found.reason for _, found in healths if found.health is Health.PROVISIONING), None)
    held = service.reason if service.retry_at is not None else None  # none is made yet, and that says why
    return Answer(Health.PROVISIONING, waits or held or "its replicas are being made")


def shown(service: Service, boxes: Sequence[Sandbox], in_flight: Mapping[str, int], now: datetime) -> list[Replica]:
    """As the API shows them, oldest first."""
    shares = weights(service, boxes, now)
    found: list[Replica] = []
    for box in boxes:
        replica = box.replica
        if replica is None or box.state in (S.DELETING, S.DELETED):
            continue
        seen = standing(box, now)
        parked = replica.parked
        found.append(
            Replica(
                sandbox=box.id,
                name=box.name,
                node=box.node,
                revision=replica.revision,
                role=replica.role,
                slot=slot_of(service, replica.revision),
                state=box.state,
                health=Health.PROVISIONING if parked else seen.health,
                reason="it is stopped until somebody wants it" if parked else seen.reason,
                weight=round(shares.get(box.id, 0.0), 4),
                draining=replica.draining_at is not None,
                in_flight=in_flight.get(box.id, 0),
                restarts=box.restarts,
                created_at=box.created_at,
            )
        )
    return found


REPLICAS_TOLD_MAX = 20


def told(service: Service, replicas: Sequence[Replica]) -> list[str]:
    """In sentences: why there are as many replicas as there are, whether it can serve, and what each replica that does
    not serve is at."""
    found: list[str] = []
    if service.spec.addresses:
        found.append(f"It leads to {len(service.spec.addresses)} addresses that are not ours to start or to look at.")
    elif service.spec.roles:
        roles = ", ".join(f"{count} {role.value}" for role, count in service.spec.roles.items())
        found.append(f"It is to have {roles}: as declared.")
    else:
        why = f": {service.wanted_reason}" if service.wanted_reason else ""
        found.append(f"It is to have {service.wanted} {'replica' if service.wanted == 1 else 'replicas'}{why}.")
    took_s = start_s(service)
    if took_s is not None and service.spec.scaling is not None:
        count = len(service.starts_s)
        of = f"9 of 10 of the last {count} took no longer" if count > 1 else "the last one did"
        found.append(f"A new replica takes {took_s:.3g} s until it is healthy: {of}.")
    if service.unknown:
        found.append(f"{service.unknown}; it gets no fewer replicas by itself.")
    if service.reason:
        found.append(f"It is {service.status.value}: {service.reason}.")
    if service.retry_at is not None:
        found.append(f"The next replica is made at {service.retry_at:%H:%M:%S} UTC, after {service.failures} failures.")
    rollout = service.rollout
    if rollout is not None:
        because = f": {rollout.reason}" if rollout.reason else ""
        found.append(f"Revision {rollout.revision} by {rollout.type.value} is {rollout.phase.value}{because}.")
    others = [each for each in replicas if each.health is not Health.HEALTHY or each.draining]
    found += [_of_replica(each) for each in others[:REPLICAS_TOLD_MAX]]
    if len(others) > REPLICAS_TOLD_MAX:
        found.append(f"{len(others) - REPLICAS_TOLD_MAX} more do not serve.")
    return found


def _of_replica(replica: Replica) -> str:
    if replica.draining:
        return f"{replica.name} drains: it is given no new requests, and goes when it has ended those it has."
    return f"{replica.name} is {replica.health.value}" + (f": {replica.reason}." if replica.reason else ".")
