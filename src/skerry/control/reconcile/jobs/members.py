"""Make the sandboxes of a task's next try, all of its members in one transaction with the task's own record, each with
the id that its seat has, so that none is ever made twice; and take them away again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from skerry.control.intents import networks
from skerry.errors import Invalid, SkerryError
from skerry.model.explain import explain
from skerry.model.job import Job, Member, Task
from skerry.model.member import Seat, gang_of, member_spec
from skerry.model.network import Membership
from skerry.model.sandbox import S, Sandbox
from skerry.store.transaction import Transaction

NETWORK_PREFIX = "gang-"
TASKS_AT_ONCE = 64
"""Whose addresses a job's network has room for, twice: a try may begin while the one before is still being removed."""


@dataclass(frozen=True)
class Subnets:
    pool: str
    """Where jobs' networks get their ranges."""
    own: str
    """The sandboxes' own, which none may overlap."""


class Impossible(Exception):
    """This task can never be made."""

    def __init__(self, say: str) -> None:
        super().__init__(say)
        self.say = say


async def make(tx: Transaction, job: Job, tasks: Sequence[Task], subnets: Subnets, limit_s: float | None) -> list[Task]:
    """The tasks with their members, whose sandboxes are written down. Raises LimitReached where addresses have run
    out for now, Impossible where a task comes to what is not allowed."""
    if not tasks:
        return []
    seats = await _seats(tx, job, len(tasks), subnets)
    joined = await networks.join_forks(tx, job.spec.networks, len(tasks) * job.spec.nodes)
    made: list[Task] = []
    boxes: list[Sandbox] = []
    for number, task in enumerate(tasks):
        first = number * job.spec.nodes
        own = seats[first : first + job.spec.nodes]
        others = joined[first : first + job.spec.nodes]
        members = [
            _box(tx, job, task, rank, own, others[rank] if others else [], limit_s) for rank in range(job.spec.nodes)
        ]
        boxes += members
        made.append(
            task.model_copy(
                update={
                    "members": [Member(rank=box.rank, sandbox=box.id) for box in members],
                    "updated_at": tx.now,
                }
            )
        )
    await tx.sandboxes.insert(boxes, [], message=f"of job {job.name}")
    return made


async def stop(tx: Transaction, box: Sandbox, grace_s: float) -> bool:
    """False: it has just changed. One that has no processes yet is deleted: there is nothing to wait for."""
    if box.state not in (S.STARTING, S.RUNNING, S.ASLEEP):
        return await delete(tx, box)
    intent = {"generation": box.generation + 1, "reason": None, "stop_grace_s": grace_s}
    return await tx.sandboxes.move(box, S.STOPPING, S.STOPPING.value, changes=intent) is not None


async def delete(tx: Transaction, box: Sandbox) -> bool:
    """False: it has just changed."""
    intent = {"generation": box.generation + 1}
    return await tx.sandboxes.move(box, S.DELETING, S.DELETING.value, changes=intent) is not None


async def _seats(tx: Transaction, job: Job, count: int, subnets: Subnets) -> list[Membership]:
    """An address in the gangs' network for each member; none where tasks have one member only."""
    if job.spec.nodes == 1:
        return []
    at_once = min(job.spec.task_count, job.spec.parallel or TASKS_AT_ONCE, TASKS_AT_ONCE)
    name = network_of(job)
    try:
        network = await networks.for_job(
            tx,
            name,
            addresses=job.spec.nodes * at_once * 2,
            pool=subnets.pool,
            own_subnet=subnets.own,
            labels={"skerry.job": job.name},
        )
    except Invalid as error:
        raise Impossible(error.say) from None
    if job.network is None and await tx.jobs.change(job, {"network": name}) is None:
        raise SkerryError(f"job {job.name} has just changed")
    return await networks.seats(tx, network, count * job.spec.nodes)


def network_of(job: Job) -> str:
    """A name that looks like an id would be taken for one."""
    return NETWORK_PREFIX + job.id.partition("-")[2]


def _box(
    tx: Transaction,
    job: Job,
    task: Task,
    rank: int,
    own: Sequence[Membership],
    joined: Sequence[Membership],
    limit_s: float | None,
) -> Sandbox:
    spec = job.spec
    seat = Seat(job.id, job.name, task.index, task.attempt, rank)
    memberships = [*own[rank : rank + 1], *joined]
    try:
        wanted = member_spec(spec, seat, image=spec.image, places=own)
    except ValidationError as error:
        raise Impossible(explain(error).say) from None
    together = spec.nodes > 1
    return Sandbox(
        id=seat.sandbox,
        project=job.project,
        name=seat.sandbox_name,
        state=S.PENDING,
        spec=wanted.model_copy(update={"networks": networks.as_joins(memberships)}),
        generation=1,
        owner=job.owner,
        job=job.id,
        task=task.index,
        attempt=task.attempt,
        limit_s=limit_s,
        gang=gang_of(job.id, task.index, task.attempt) if together else None,
        gang_size=spec.nodes,
        gang_min=spec.nodes_min or spec.nodes,
        rank=rank,
        image_digest=job.image_digest,
        memberships=memberships,
        volumes=job.volumes,
        stop_grace_s=spec.grace_s,
        created_at=tx.now,
        updated_at=tx.now,
    )
