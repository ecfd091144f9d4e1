"""What is to be done about a service now, from what is known of its replicas. Pure: the same facts at the same time,
the same answer.

Replicas are made, drained and taken away; nobody's request is lost with one: it leaves the routes first, and goes when
gateways say that nothing is under way there any more, or when its time to drain is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from skerry.control.reconcile.services.disks import Disks, is_new_fork
from skerry.control.reconcile.services.facts import Facts, Plan, replica_of
from skerry.model.replica import Role
from skerry.model.rollout import Phase, Rollout, RolloutStatus
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import STARTS_KEPT, Health, ServiceState
from skerry.model.serving import Standing, groups, standing, status_of

BACKOFF_FIRST_S, BACKOFF_S_MAX = 1.0, 300.0
PARKED_MAX = 1
"""Stopped replicas that are kept of a service at zero: the first who asks is served by it; more are made as before."""
LOST = (S.STOPPED, S.FAILED)
GIVEN_UP = range(3, 1_000_000)
"""Failures in a row after which whoever waits for it is told; it is tried on all the same."""


def decide(facts: Facts) -> Plan:
    return _Decision(facts).plan()


class _Decision:
    def __init__(self, facts: Facts) -> None:
        self._service = facts.service
        self._facts = facts
        self._now = facts.now
        self._plan = Plan()
        here = [box for box in facts.boxes if box.state is not S.DELETING]
        self._here = here
        self._leaving = [box for box in here if replica_of(box).draining_at is not None]
        self._parked = [box for box in here if replica_of(box).parked and box not in self._leaving]
        rest = [box for box in here if box not in self._leaving and box not in self._parked]
        self._lost = [box for box in rest if box.state in LOST and box.evicted is None]
        self._live = [box for box in rest if box not in self._lost]
        self._seen: dict[str, Standing] = {box.id: standing(box, self._now) for box in here}
        self._disks = Disks(facts, self._plan, self._seen)

    def plan(self) -> Plan:
        plan, service = self._plan, self._service
        self._note()
        if service.state is ServiceState.DELETING:
            self._drain(self._live)
            plan.delete += [*self._lost, *self._parked]
            self._let_go(park=False)
            if not self._facts.boxes:
                self._disks.forget([*service.checkpoints])
                plan.over = not service.checkpoints
            return plan
        self._bury()
        rollout = service.rollout
        wanted = groups(service)
        self._drain([box for box in self._live if replica_of(box).role not in wanted])
        if rollout is None:
            for role, count in wanted.items():
                self._replace(role, count, service.serving)
        else:
            self._roll(rollout, wanted)
        parks = not sum(wanted.values()) and service.spec.scaling is not None
        self._let_go(park=parks)
        self._disks.choose(self._well(self._live), [box for box in self._live if box not in plan.drain])
        self._hold_back()
        self._say()
        return plan

    # What has happened

    def _note(self) -> None:
        fresh = [
            box
            for box in self._live
            if self._seen[box.id].health is Health.HEALTHY
            and (replica_of(box).healthy_at is None or _is_older(replica_of(box).healthy_at, box.started_at))
        ]
        self._plan.healthy = fresh
        new = [box for box in fresh if replica_of(box).healthy_at is None and not replica_of(box).woken]
        if new:
            took_s = [round((self._now - box.created_at).total_seconds(), 3) for box in new]
            self._plan.changes["starts_s"] = [*self._service.starts_s, *took_s][-STARTS_KEPT:]
        if fresh:
            if not self._service.ever_healthy:
                self._plan.changes["ever_healthy"] = True
            if self._service.failures:
                self._plan.changes |= {"failures": 0, "retry_at": None, "failure": None}
        for box in self._live:
            self._plan.at(self._seen[box.id].until)

    def _bury(self) -> None:
        """Those that are lost, and those that have been unhealthy for too long: others come in their place."""
        plan, service = self._plan, self._service
        kept = service.rollout is not None and service.rollout.phase is Phase.STOPPED
        for box in self._lost:
            replica = replica_of(box)
            if kept and replica.revision == service.revision:
                continue  # for whoever looks why the rollout has stopped
            plan.delete.append(box)
            why = box.reason or ("it was stopped" if box.state is S.STOPPED else "it could not be started")
            plan.told.append(("replica-lost", f"replica {replica.number}: {why}"))
            if replica.healthy_at is None:
                self._fail(box, why)
        for box in self._live:
            replica, seen = replica_of(box), self._seen[box.id]
            if seen.health is Health.UNHEALTHY and is_new_fork(box):
                why = seen.reason or "it is unhealthy"
                plan.told.append(("replica-given-up", f"replica {replica.number}, a fork: {why}"))
                self._fail(box, why)
                self._drain([box])
            if seen.health is not Health.UNHEALTHY or replica.healthy_at is None or box.health is None:
                continue
            until = box.health.since + timedelta(seconds=replica.patience_s)
            if self._now < until:
                plan.at(until)
            else:
                plan.told.append(("replica-given-up", f"replica {replica.number}: {seen.reason or 'unhealthy'}"))
                self._drain([box])

    def _fail(self, box: Sandbox, why: str) -> None:
        """It was never healthy. One that was forked may owe that to its disk: the next begins with the image."""
        plan, service = self._plan, self._service
        failures = plan.changes.get("failures", service.failures) + 1
        wait_s = min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 30), BACKOFF_S_MAX)
        retry_at = self._now + timedelta(seconds=wait_s)
        plan.changes |= {"failures": failures, "retry_at": retry_at, "failure": why}
        self._disks.blame(box, why)

    # How many there are to be

    def _of(self, role: Role, revision: int) -> list[Sandbox]:
        return [box for box in self._staying(role) if replica_of(box).revision == revision]

    def _staying(self, role: Role) -> list[Sandbox]:
        return [box for box in self._live if replica_of(box).role is role and box not in self._plan.drain]

    def _well(self, boxes: Sequence[Sandbox]) -> list[Sandbox]:
        return [box for box in boxes if self._seen[box.id].health is Health.HEALTHY]

    def _keep(self, role: Role, count: int, revision: int, *, beside: int = 0) -> None:
        """As many of a revision as are wanted; `beside`: of another one, that do as well."""
        there = self._of(role, revision)
        short = max(0, count - beside) - len(there)
        if short > 0:
            self._make(role, revision, short)
        elif short < 0:
            self._drain(self._least_missed(there)[:-short])

    def _make(self, role: Role, revision: int, count: int) -> None:
        stopped = [box for box in self._parked if replica_of(box).revision == revision and replica_of(box).role is role]
        woken = [box for box in stopped if box.state is S.STOPPED][:count]
        self._plan.wake += woken
        self._plan.make += [(revision, role)] * (count - len(woken))

    def _least_missed(self, boxes: Sequence[Sandbox]) -> list[Sandbox]:
        """Those that do no work first, then those with the least, then the youngest."""
        order = {Health.UNHEALTHY: 0, Health.PROVISIONING: 1, Health.DEGRADED: 2, Health.HEALTHY: 3}

        def missed(box: Sandbox) -> tuple[int, int, int]:
            busy = self._facts.in_flight.get(box.id, 0)
            return order[self._seen[box.id].health], busy, -replica_of(box).number

        return sorted(boxes, key=missed)

    def _drain(self, boxes: Sequence[Sandbox]) -> None:
        self._plan.drain += [box for box in boxes if box not in self._plan.drain]

    # From one revision to the next

    def _roll(self, rollout: RolloutStatus, wanted: Mapping[Role, int]) -> None:
        if rollout.phase is Phase.GOING_ON and (why := self._failure(rollout)) is not None:
            rollout = self._to(rollout, Phase.STOPPED, why)
            self._plan.told.append(("rollout-stopped", why))
            self._plan.settled = f"revision {rollout.revision} does not become healthy: {why}"
        if rollout.phase in (Phase.PAUSED, Phase.STOPPED):
            self._stand_still(rollout, wanted)
        elif rollout.type is Rollout.RECREATE:
            self._recreate(rollout, wanted)
        elif rollout.type is Rollout.ROLLING or rollout.promoted:
            done = [self._replace(role, count, rollout.revision) for role, count in wanted.items()]
            if all(done):
                self._finish(rollout)
        else:
            self._stage(rollout, wanted)

    def _failure(self, rollout: RolloutStatus) -> str | None:
        """Why it is not to go on: one of the new ones was never healthy and is not going to be."""
        for box in (*self._live, *self._lost):
            replica = replica_of(box)
            if replica.revision != rollout.revision or replica.healthy_at is not None or box.evicted is not None:
                continue
            if is_new_fork(box):
                continue  # another is made from the image, which may do better
            seen = self._seen[box.id]
            if seen.health is Health.UNHEALTHY:
                if box in self._plan.delete:
                    self._plan.delete.remove(box)
                return f"replica {replica.number}: {seen.reason or 'it is unhealthy'}"
        return None

    def _stand_still(self, rollout: RolloutStatus, wanted: Mapping[Role, int]) -> None:
        """What serves goes on to, and is kept at its number."""
        if rollout.type is Rollout.RECREATE and rollout.phase is Phase.PAUSED:
            return
        serving = self._service.serving
        for role, count in wanted.items():
            others = [box for box in self._staying(role) if replica_of(box).revision != serving]
            if rollout.is_staged:
                others = [box for box in others if replica_of(box).revision != rollout.revision]
            if rollout.type is not Rollout.RECREATE:
                self._keep(role, count, serving, beside=len(self._well(others)))

    def _replace(self, role: Role, count: int, revision: int, *, staged: int | None = None) -> bool:
        """One after the other by those of this revision, never with fewer that serve than allowed. `staged`: one that
        is not in production yet. Whether it is done."""
        strategy = self._service.spec.strategy
        surge = max(strategy.surge, 0 if strategy.unavailable else 1)
        new = self._of(role, revision)
        old = [box for box in self._staying(role) if replica_of(box).revision not in (revision, staged)]
        idle = [box for box in old if self._seen[box.id].health is not Health.HEALTHY]
        self._drain(idle)  # they serve nobody
        old = [box for box in old if box not in idle]
        spare = len(old) + len(self._well(new)) - max(0, count - strategy.unavailable)
        self._drain(self._least_missed(old)[: max(0, spare)])
        left = len(old) - max(0, min(spare, len(old)))
        room = count + surge - left - len(new)
        if len(new) < count:
            self._make(role, revision, max(0, min(count - len(new), room)))
        else:
            self._drain(self._least_missed(new)[: len(new) - count])
        return not left and len(self._well(self._of(role, revision))) >= count

    def _recreate(self, rollout: RolloutStatus, wanted: Mapping[Role, int]) -> None:
        old = [box for box in self._here if replica_of(box).revision != rollout.revision]
        self._drain([box for box in old if box in self._live])
        if not old and len(self._here) == len(self._facts.boxes):
            for role, count in wanted.items():
                self._keep(role, count, rollout.revision)
        if not old and all(len(self._well(self._of(role, rollout.revision))) >= n for role, n in wanted.items()):
            self._finish(rollout)

    def _stage(self, rollout: RolloutStatus, wanted: Mapping[Role, int]) -> None:
        """Beside what serves: in full, or as many as the weight of a canary comes to."""
        weight = self._service.spec.strategy.weight / 100 if rollout.type is Rollout.CANARY else 1.0
        ready = True
        for role, count in wanted.items():
            self._replace(role, count, self._service.serving, staged=rollout.revision)
            staged = min(count, max(1, round(count * weight)))
            self._keep(role, staged, rollout.revision)
            ready = ready and len(self._well(self._of(role, rollout.revision))) >= staged
        if ready and rollout.phase is Phase.GOING_ON:
            self._to(rollout, Phase.READY, None)
            self._plan.told.append(("rollout-ready", f"revision {rollout.revision} can be promoted"))

    def _to(self, rollout: RolloutStatus, phase: Phase, reason: str | None) -> RolloutStatus:
        after = rollout.model_copy(update={"phase": phase, "reason": reason, "since": self._now})
        self._plan.changes["rollout"] = after
        return after

    def _finish(self, rollout: RolloutStatus) -> None:
        self._plan.changes |= {"serving": rollout.revision, "rollout": None}
        self._plan.told.append(("rollout-done", f"revision {rollout.revision} is in production"))

    # Who goes

    def _let_go(self, *, park: bool) -> None:
        """Those that have drained."""
        plan = self._plan
        kept = len(self._parked) if park else 0
        if not park:
            plan.delete += [box for box in self._parked if box not in plan.wake and self._is_stale(box)]
        drain_s = self._service.spec.drain
        for box in [*self._leaving, *plan.drain]:
            since = replica_of(box).draining_at or self._now
            if not self._has_drained(box, since, drain_s):
                plan.at(since + timedelta(seconds=drain_s))
            elif park and kept < PARKED_MAX and box.state is S.RUNNING and self._is_current(box):
                plan.park.append(box)
                kept += 1
            else:
                plan.delete.append(box)

    def _is_current(self, box: Sandbox) -> bool:
        return replica_of(box).revision == self._service.serving == self._service.revision

    def _is_stale(self, box: Sandbox) -> bool:
        """A parked one that nobody would wake: of another revision, or beside enough that run."""
        replica = replica_of(box)
        if replica.revision != self._service.serving:
            return True
        return box.state is S.STOPPED and bool(self._of(replica.role, replica.revision))

    def _has_drained(self, box: Sandbox, since: datetime, drain_s: float) -> bool:
        was_healthy = replica_of(box).healthy_at is not None or self._seen[box.id].health is Health.HEALTHY
        if box.state not in (S.RUNNING, S.ASLEEP) or not was_healthy:
            return True  # nobody was sent to it
        return box.id in self._facts.idle or self._now >= since + timedelta(seconds=drain_s)

    def _hold_back(self) -> None:
        """After failures nothing is made for a while."""
        retry_at = self._plan.changes.get("retry_at", self._service.retry_at)
        if retry_at is not None and retry_at > self._now:
            self._plan.make.clear()
            self._plan.at(retry_at)

    # What is said of it

    def _say(self) -> None:
        plan, service = self._plan, self._service
        after = service.model_copy(update=plan.changes)
        staying = [box for box in self._facts.boxes if box not in plan.drain and box not in plan.delete]
        found = status_of(after, staying, self._now)
        if found.health is not service.status:
            plan.changes["status"] = found.health
            plan.told.append((found.health.value, found.reason or ""))
        if (found.reason, found.ready) != (service.reason, service.ready):
            plan.changes |= {"reason": found.reason, "ready": found.ready}
        rollout = after.rollout
        waits = rollout is not None and rollout.phase is Phase.GOING_ON
        if service.operation is not None and plan.settled is None and not waits:
            if found.health is Health.HEALTHY and not (rollout and rollout.phase is Phase.STOPPED):
                plan.settled = ""
            elif found.health is Health.UNHEALTHY and rollout is None and after.failures in (0, *GIVEN_UP):
                plan.settled = found.reason or "it is unhealthy"
        if plan.settled is not None:
            if service.operation is None:
                plan.settled = None
            else:
                plan.changes["operation"] = None


def _is_older(moment: datetime | None, than: datetime | None) -> bool:
    return moment is not None and than is not None and moment < than
