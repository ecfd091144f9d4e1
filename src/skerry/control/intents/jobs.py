"""What may be asked of jobs: submit, cancel, delete. A submission is checked as a whole before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from skerry.control.intents import models, networks, queues, sandboxes, secrets, volumes
from skerry.control.intents.capacity import WhyNever, check_size, none_known
from skerry.errors import AlreadyExists, Conflict, InUse, Invalid, LimitReached, NotFound, SkerryError, told_of
from skerry.model.explain import explain
from skerry.model.identity import make_id
from skerry.model.job import JOB_FINAL, CancelRequest, Dependency, Job, JobSpec, JobState
from skerry.model.member import OUTPUT, Seat, member_spec
from skerry.model.network import Membership
from skerry.model.sandbox import Mount, SandboxSpec
from skerry.store.transaction import Transaction

_J = JobState
JOBS_MAX = 20_000
"""Going on at one time."""


class JobIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset((was, _J.CANCELLING) for was in (_J.BLOCKED, _J.PENDING, _J.RUNNING))


@dataclass(frozen=True)
class Server:
    """What of the server's settings jobs are held to."""

    share: Sequence[Path] = ()
    why_never: WhyNever = none_known
    sandboxes_max: int = 2000
    """Of jobs, on each machine."""


async def submit(tx: Transaction, spec: JobSpec, *, owner: str, server: Server) -> Job:
    image = await sandboxes.find_image(tx, spec.image)
    job_id = make_id("job", tx.chance(6))
    name = spec.name or sandboxes.free_name(image.name, tx.chance(3))
    first = _first_member(spec, job_id, name, image.name)
    sandboxes.check_mounts(first, server.share)
    await check_size(tx, first, server.why_never)
    await _check_queue(tx, spec, owner)
    await secrets.check(tx, spec.secrets)
    await models.check(tx, spec.mounts)
    await _check_notify(tx, spec)
    await _check_networks(tx, spec)
    mounted = await _mounted(tx, spec)
    dependencies = await _dependencies(tx, spec)
    if spec.nodes > server.sandboxes_max * max(1, await tx.nodes.count()):
        most = server.sandboxes_max
        raise Invalid(f"nodes: {spec.nodes} is not allowed; there may be {most} on a machine", field="nodes")
    if await tx.jobs.count_going_on() >= JOBS_MAX:
        raise LimitReached(f"there may be {JOBS_MAX} jobs that have not ended; wait for some, or cancel them")
    waits = {"name": name, "image": image.name, "depends_on": dependencies}
    job = Job(
        id=job_id,
        project=tx.project,
        owner=owner,
        name=name,
        state=_J.BLOCKED if dependencies else _J.PENDING,
        spec=spec.model_copy(update=waits),
        image_digest=image.digest,
        volumes=mounted,
        created_at=tx.now,
        updated_at=tx.now,
    )
    try:
        await tx.jobs.insert([job], [])
    except AlreadyExists as error:
        raise AlreadyExists(
            f"name: a job {name} is going on; wait for its end, cancel it, or take another name",
            because=error.because,
            field="name",
        ) from error
    return job


LONGEST = Membership(name="longest", address="10.255.255.255", subnet="10.0.0.0/8")


def _first_member(spec: JobSpec, job_id: str, name: str, image: str) -> SandboxSpec:
    """What the first one comes to: whatever is not allowed of a sandbox is not allowed of a job's."""
    seat = Seat(job_id, name, spec.indices[0], 0, 0)
    try:
        return member_spec(spec, seat, image=image, places=[LONGEST] * spec.nodes)
    except ValidationError as error:
        raise explain(error, SandboxSpec) from None


async def _check_queue(tx: Transaction, spec: JobSpec, owner: str) -> None:
    """That it is there, that its first task may wait in it, and that it is not asked for longer than it allows."""
    queue = await queues.admit(tx, spec.queue, owner=owner, count=spec.nodes)
    longest_s = queue.spec.max_duration
    if longest_s is not None and spec.max_duration is not None and spec.max_duration > longest_s:
        raise Invalid(
            f"max_duration: {spec.max_duration:g} s is not allowed; queue {queue.name} allows {longest_s:g} s",
            field="max_duration",
        )
    if await tx.jobs.count_going_on(queue=queue.name) >= queue.spec.pending_max:
        raise LimitReached(f"queue {queue.name}: {queue.spec.pending_max} jobs may wait in it, and do (pending_max)")


async def _check_notify(tx: Transaction, spec: JobSpec) -> None:
    for number, each in enumerate(spec.notify):
        if each.secret is not None and not await tx.secrets.named([each.secret], tx.project):
            field = f"notify[{number}].secret"
            raise NotFound(
                f"{field}: there is no secret {each.secret}; make it with: skerry secret set {each.secret}",
                field=field,
            )


async def _check_networks(tx: Transaction, spec: JobSpec) -> None:
    for number, join in enumerate(spec.networks):
        field = f"networks[{number}]"
        await networks.find(tx, join.name, f"{field}.name")
        if join.address is not None:
            raise Invalid(f"{field}.address: members of a job get addresses that are free", field=f"{field}.address")


async def _mounted(tx: Transaction, spec: JobSpec) -> dict[str, str]:
    found = await volumes.mounted(tx, spec.mounts)
    if spec.output is None:
        return found
    try:
        return found | await volumes.mounted(tx, [Mount(volume=spec.output, target=OUTPUT)])
    except SkerryError as error:
        field = error.field or ""
        say = error.say.replace(field, "output", 1) if field and error.say.startswith(field) else error.say
        raise type(error)(say, field="output") from None


async def _dependencies(tx: Transaction, spec: JobSpec) -> list[Dependency]:
    """By id: a name may be another's by the time that it matters."""
    found: list[Dependency] = []
    for number, wanted in enumerate(spec.depends_on):
        field = f"depends_on[{number}].job"
        try:
            job = await tx.jobs.find(wanted.job, tx.project)
        except (NotFound, Conflict) as error:
            told = told_of(field, error)
            raise type(error)(told.say, field=field) from None
        found.append(wanted.model_copy(update={"job": job.id}))
    return found


async def cancel(tx: Transaction, job: Job, *, reason: str, outcome: JobState | None = None) -> Job:
    """What runs of it is stopped, and nothing more of it starts. `outcome`: what it is then, if not cancelled."""
    if job.state in JOB_FINAL:
        raise Conflict(f"job {job.name} has ended already: {job.state.value}")
    if job.state is _J.CANCELLING:
        return job
    message = reason or "it was cancelled"
    written = await tx.jobs.move(
        job, _J.CANCELLING, "cancelling", message=message, changes={"reason": message, "outcome": outcome}
    )
    if written is None:
        raise Conflict(f"job {job.name} has just changed; look, then try again")
    return written


async def cancel_tasks(tx: Transaction, job: Job, request: CancelRequest) -> Job:
    """Only some of its tasks. Those that have ended stay as they are."""
    if job.state in JOB_FINAL:
        raise Conflict(f"job {job.name} has ended already: {job.state.value}")
    positions = {index: position for position, index in enumerate(job.spec.indices)}
    for number, index in enumerate(request.indices):
        if index not in positions:
            field = f"indices[{number}]"
            raise NotFound(f"{field}: job {job.name} has no task {index}", field=field)
    wanted = {index: positions[index] for index in dict.fromkeys(request.indices)}
    await tx.tasks.cancel(job, wanted, request.reason or "it was cancelled")
    few = ", ".join(str(index) for index in list(wanted)[:10]) + (", …" if len(wanted) > 10 else "")
    await tx.events.add([("job", job.id, job.name, "cancelling-tasks", f"tasks {few}")])
    tx.written.append(job)
    return job


async def delete(tx: Transaction, job: Job) -> Job:
    """With what is kept of it: its tasks and their logs."""
    if job.state not in JOB_FINAL:
        raise Conflict(f"job {job.name} is {job.state.value}; cancel it first: skerry job cancel {job.name}")
    for waiting in await tx.jobs.in_states([_J.BLOCKED], JOBS_MAX):
        if any(each.job == job.id for each in waiting.spec.depends_on):
            raise InUse(f"job {waiting.name} waits for job {job.name}; cancel that one first")
    await tx.jobs.forget([job.id])
    await tx.events.add([("job", job.id, job.name, "deleted", "")])
    tx.written.append(job)
    return job
