"""What new replicas start from, where a service forks: a checkpoint of one of their revision that was ready, or the
image. Pure.

A checkpoint that cannot be made is asked for again for a while. One on which a replica could not start is not, so that
a server that cannot start on a disk it has used before does not fail over and over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from skerry.control.reconcile.services.facts import Facts, Plan, replica_of
from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.model.replica import Role
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Health, StartDisk
from skerry.model.serving import Standing

TAKEN_S = 0.3
"""While a checkpoint is taken, those that are to start from it wait, and the service is looked at so often."""
TAKEN_S_MAX = 10.0
"""Longer they do not wait, as while its machine does not answer, and start from the image."""
TAKE_TRIES_MAX = 8
"""So often one is asked for of each revision; a full disk pool has four minutes to become less so."""
TAKE_AGAIN_S = 2.0
"""After the first that failed; twice as long after each of the next."""
ELSEWHERE_S = 2.0
"""A fork for which there has been no room for so long where its checkpoint is goes elsewhere, from the image."""
FORGET_S = 2.0
"""A checkpoint that is in use when it is to go is looked at again after this."""


class Disks:
    def __init__(self, facts: Facts, plan: Plan, seen: Mapping[str, Standing]) -> None:
        self._service = facts.service
        self._facts = facts
        self._plan = plan
        self._seen = seen

    def choose(self, well: Sequence[Sandbox], staying: Sequence[Sandbox]) -> None:
        """When all else of the plan stands. `well`: those that are healthy; `staying`: all that do not leave."""
        plan, service = self._plan, self._service
        used = {plan.changes.get("serving", service.serving), service.revision} if service.spec.fork else set[int]()
        self.forget([revision for revision in service.checkpoints if revision not in used])
        awaited = {revision for revision in sorted(used) if self._look(revision, well)}
        if awaited:
            plan.at(self._facts.now + timedelta(seconds=TAKEN_S))
        self._go_elsewhere(staying)
        if plan.changes.get("failures", service.failures):
            plan.sources.clear()  # the disk may be why
            return
        plan.make = [each for each in plan.make if each[0] not in awaited]
        if service.revision in used - service.checkpoints.keys() - awaited and service.spec.prepare:
            self._let_one_prepare(staying)

    def forget(self, revisions: list[int]) -> None:
        """As soon as nobody has to make a disk from theirs any more."""
        self._plan.forget = revisions
        if revisions:
            self._plan.at(self._facts.now + timedelta(seconds=FORGET_S))

    def blame(self, box: Sandbox, why: str) -> None:
        """It was never healthy, maybe because of the disk it was forked from: the next begins with the image."""
        source = self._source(box)
        if source is not None and source.state is CheckpointState.READY and source not in self._plan.spoilt:
            self._plan.spoilt.append(source)
            self._plan.told.append(("checkpoint-dropped", f"replica {replica_of(box).number}, forked from it: {why}"))

    def _look(self, revision: int, well: Sequence[Sandbox]) -> bool:
        """Whether its checkpoint is there in a moment, so that it is worth waiting for."""
        plan, now = self._plan, self._facts.now
        disk = self._service.checkpoints.get(revision)
        found = self._facts.checkpoints.get(disk.checkpoint) if disk is not None else None
        if found is not None and found in plan.spoilt:
            return False
        if disk is not None and found is not None and found.state is CheckpointState.FAILED:
            self._failed(revision, disk, found)
        elif found is not None and found.state is CheckpointState.READY:
            plan.sources[revision] = found
        elif found is not None and found.state is CheckpointState.CREATING:
            return now < found.created_at + timedelta(seconds=TAKEN_S_MAX)
        elif disk is None or (disk.retry_at is not None and now >= disk.retry_at):
            return self._take(revision, well)
        else:
            plan.at(disk.retry_at)
        return False

    def _take(self, revision: int, well: Sequence[Sandbox]) -> bool:
        """Of the youngest, which has written least on its disk since it was ready."""
        plan = self._plan
        leaving = [*plan.drain, *plan.delete]
        there = [box for box in well if replica_of(box).revision == revision and box not in leaving]
        box = max((box for box in there if box.state is S.RUNNING), key=lambda b: replica_of(b).number, default=None)
        if box is None:
            return False
        plan.take[revision] = box
        plan.told.append(("checkpoint", f"revision {revision}: of replica {replica_of(box).number}"))
        return True

    def _failed(self, revision: int, disk: StartDisk, found: Checkpoint) -> None:
        plan = self._plan
        plan.spoilt.append(found)
        if disk.tries >= TAKE_TRIES_MAX:
            plan.told.append(("checkpoint-dropped", f"revision {revision}, after {disk.tries} tries: {found.reason}"))
            return
        wait_s = TAKE_AGAIN_S * 2.0 ** (disk.tries - 1)
        plan.take_again[revision] = self._facts.now + timedelta(seconds=wait_s)
        plan.at(plan.take_again[revision])
        said = f"revision {revision}: {found.reason}; it is tried again in {wait_s:g} s"
        plan.told.append(("checkpoint-failed", said))

    def _go_elsewhere(self, staying: Sequence[Sandbox]) -> None:
        """A fork starts where its checkpoint is; from the image wherever there is room and its volumes are."""
        plan, now = self._plan, self._facts.now
        for box in staying:
            source = self._source(box) if box.state is S.PENDING and box.node is None and not box.volumes else None
            if source is None:
                continue
            since = (box.queued_at or box.created_at) + timedelta(seconds=ELSEWHERE_S)
            if now < since:
                plan.at(since)
            elif self._facts.taking - {source.node}:
                plan.unfork.append(box)
                number = replica_of(box).number
                plan.told.append(("from-image", f"replica {number}: there is no room where its checkpoint is"))

    def _let_one_prepare(self, staying: Sequence[Sandbox]) -> None:
        """The first of each role; the others are forks of one that has, as soon as it is healthy. Nobody waits for one
        that is unhealthy."""
        there: dict[Role, bool] = {}
        for box in staying:
            replica = replica_of(box)
            if replica.revision == self._service.revision:
                ill = self._seen[box.id].health is Health.UNHEALTHY
                there[replica.role] = there.get(replica.role, False) or ill
        made: list[tuple[int, Role]] = []
        for revision, role in self._plan.make:
            if revision != self._service.revision or there.get(role, True):
                made.append((revision, role))
                there.setdefault(role, False)
        self._plan.make = made

    def _source(self, box: Sandbox) -> Checkpoint | None:
        return self._facts.checkpoints.get(box.source_checkpoint or "") if is_new_fork(box) else None


def is_new_fork(box: Sandbox) -> bool:
    """Nothing speaks for its disk yet: it was never healthy, not even before it was stopped and woken."""
    replica = replica_of(box)
    return box.source_checkpoint is not None and replica.healthy_at is None and not replica.woken
