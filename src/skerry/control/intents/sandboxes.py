"""What may be asked of a sandbox and when: create, start, stop, restore, delete, update. Each is one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from skerry.control.intents import models, networks, queues, secrets, volumes
from skerry.control.intents.capacity import WhyNever, check_size, none_known
from skerry.control.intents.checkpoints import request_deletion
from skerry.control.intents.ports import Held, claim, claim_again
from skerry.errors import Conflict, Invalid, LimitReached, NotFound, Protected, RestartNeeded
from skerry.model.amounts import format_size
from skerry.model.changes import Change
from skerry.model.checkpoint import CheckpointState, Origin
from skerry.model.explain import explain
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageState
from skerry.model.operation import Operation
from skerry.model.sandbox import AT_REST, HOLDS_PLACE, MOVES, S, Sandbox, SandboxSpec, SandboxUpdate, changes
from skerry.model.stats import Stats
from skerry.store.transaction import Transaction


class SandboxIntents:
    """The arrows that these functions take, and nobody else: all that the table gives to `api`."""

    moves: ClassVar = frozenset(
        {
            (S.STOPPED, S.PENDING),
            (S.FAILED, S.PENDING),
            (S.PENDING, S.STOPPED),
            (S.STARTING, S.STOPPING),
            (S.RUNNING, S.STOPPING),
            (S.RUNNING, S.RESTORING),
            (S.ASLEEP, S.STOPPING),
            (S.ASLEEP, S.RESTORING),
            *((was, S.DELETING) for was in S if (was, S.DELETING) in MOVES),
        }
    )


_SIZES = ("cpu", "memory", "gpu", "gpu_kind", "gpu_memory", "extras", "queue", "placement")
_AFRESH: dict[str, Any] = {"reason": None, "failures": 0, "starts_at": None}


def check_mounts(spec: SandboxSpec, share: Sequence[Path]) -> None:
    """Raises the first of the problems."""
    for problem in mount_problems(spec, share):
        raise problem


def mount_problems(spec: SandboxSpec, share: Sequence[Path]) -> Iterator[Invalid]:
    """One for each host folder outside what the operator shares; symlinks are followed before judging. `share`: real
    paths."""
    for number, mount in enumerate(spec.mounts):
        if mount.source is None:
            continue
        source = Path(mount.source).resolve()
        if not any(source.is_relative_to(folder) for folder in share):
            below = ", ".join(str(folder) for folder in share)
            hint = f"allowed are {below} and what is below" if below else "this server shares none"
            hint += f"; its operator adds one with: skerry share add {mount.source}"
            yield Invalid(
                f"mounts[{number}].source: {mount.source} is not shared; {hint}", field=f"mounts[{number}].source"
            )


async def check_count(tx: Transaction, count: int, sandboxes_max: int) -> None:
    if await tx.sandboxes.count_living() + count > sandboxes_max * max(1, await tx.nodes.count()):
        raise LimitReached(f"there may be {sandboxes_max} sandboxes on a machine; delete some (sandboxes_max)")


async def find_image(tx: Transaction, ref: str) -> Image:
    """Raises NotFound with the command that fetches it, Conflict for one that failed."""
    try:
        image = await tx.images.find(ref, tx.project)
    except NotFound:
        raise NotFound(
            f"there is no image {ref}; fetch it with: skerry image pull docker://{ref}", field="image"
        ) from None
    if image.state is ImageState.FAILED:
        raise Conflict(f"image {image.name} could not be made ({image.reason}); pull or build it again", field="image")
    if image.state is ImageState.DELETING:
        raise Conflict(f"image {image.name} is being deleted", field="image")
    return image


async def create(
    tx: Transaction,
    spec: SandboxSpec,
    *,
    why_never: WhyNever,
    share: Sequence[Path],
    sandboxes_max: int,
    held: Held = (),
    owner: str = "",
) -> Sandbox:
    """`owner`: name of the key that asks for it."""
    check_mounts(spec, share)
    image = await find_image(tx, spec.image)
    await check_size(tx, spec, why_never)
    await check_count(tx, 1, sandboxes_max)
    await queues.admit(tx, spec.queue, owner=owner)
    await secrets.check(tx, spec.secrets)
    await models.check(tx, spec.mounts)
    sandbox_id = make_id("sandbox", tx.chance(6))
    name = spec.name or free_name(image.name, tx.chance(3))
    ports = await claim(tx, spec.ports, owner=None, held=held)
    memberships = await networks.join(tx, spec.networks)
    mounted = await volumes.mounted(tx, spec.mounts)
    operation = tx.operations.new("sandbox.create", sandbox_id, tx.project)
    sandbox = Sandbox(
        id=sandbox_id,
        project=tx.project,
        name=name,
        state=S.PENDING,
        spec=spec.model_copy(
            update={
                "name": name,
                "image": image.name,
                "ports": ports,
                "networks": networks.as_joins(memberships),
            }
        ),
        memberships=memberships,
        volumes=mounted,
        generation=1,
        owner=owner,
        image_digest=image.digest,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await tx.sandboxes.insert([sandbox], [operation])
    return sandbox


def free_name(image: str, chance: bytes) -> str:
    """`team/debian:12` -> debian-3f9a1c: says what it is, and is free but for one chance in 16 million."""
    base = re.sub(r"[^a-z0-9-]", "-", image.rsplit("/", 1)[-1].partition(":")[0]).strip("-")[:40].strip("-")
    return f"{base or 'box'}-{chance.hex()}"


async def start(
    tx: Transaction,
    sandbox: Sandbox,
    held: Held = (),
    *,
    evicted: str | None = None,
    queued_at: datetime | None = None,
) -> Sandbox:
    """Through its queue, as everybody: what it held when it ran has been given to others. `evicted`: why it had to make
    room, if it comes back from that; it then waits since `queued_at`."""
    match sandbox.state:
        case S.RUNNING | S.ASLEEP | S.STARTING | S.PENDING:
            return sandbox
        case S.STOPPED | S.FAILED:
            await queues.admit(tx, sandbox.spec.queue, owner=sandbox.owner)
            await secrets.check(tx, sandbox.spec.secrets)
            await models.check(tx, sandbox.spec.mounts)
            changes = {**_AFRESH, "restore_checkpoint": None, "evicted": evicted, "queued_at": queued_at or tx.now}
            changes |= await claim_again(tx, sandbox, held)
            return await _move(tx, sandbox, S.PENDING, "sandbox.start", changes)
        case _:
            raise _wrong_state(sandbox, "start", "stopped or failed")


async def stop(tx: Transaction, sandbox: Sandbox, grace_s: float, *, evicted: str | None = None) -> Sandbox:
    """`evicted`: why it has to make room. Whoever else stops it means that it is not to come back."""
    match sandbox.state:
        case S.STOPPED | S.STOPPING:
            if sandbox.evicted is None or evicted is not None:
                return sandbox
            return await tx.sandboxes.change(sandbox, {"evicted": None}) or sandbox
        case S.PENDING:  # no machine has heard of it since it last stopped
            changes = {"reason": None, "restore_checkpoint": None, "evicted": None}
            stopped = await _move(tx, sandbox, S.STOPPED, "sandbox.stop", changes)
            assert stopped.operation is not None
            await tx.operations.finish(stopped.operation, None)
            return stopped
        case S.RUNNING | S.ASLEEP | S.STARTING:
            changes = {"stop_grace_s": grace_s, "reason": None, "evicted": evicted}
            return await _move(tx, sandbox, S.STOPPING, "sandbox.stop", changes)
        case _:
            raise _wrong_state(sandbox, "stop", "running")


async def restore(tx: Transaction, sandbox: Sandbox, checkpoint_ref: str, held: Held = ()) -> Sandbox:
    if sandbox.state not in (S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED):
        raise _wrong_state(sandbox, "restore", "running, asleep, stopped or failed")
    checkpoint = await tx.checkpoints.find_of(sandbox.id, checkpoint_ref)
    if checkpoint.state is not CheckpointState.READY:
        raise Conflict(f"checkpoint v{checkpoint.number} is {checkpoint.state.value}; only a ready one can be restored")
    await secrets.check(tx, sandbox.spec.secrets)
    await models.check(tx, sandbox.spec.mounts)
    to = S.RESTORING
    if sandbox.state not in HOLDS_PLACE:  # one that has a place keeps it; any other asks for one first
        await queues.admit(tx, sandbox.spec.queue, owner=sandbox.owner)
        to = S.PENDING
    changes = {**_AFRESH, "restore_checkpoint": checkpoint.id, **await claim_again(tx, sandbox, held)}
    return await _move(tx, sandbox, to, "sandbox.restore", changes, message=f"v{checkpoint.number}")


async def delete(tx: Transaction, sandbox: Sandbox, *, force: bool) -> Sandbox:
    """Its checkpoints go with it, but for those that a fork still has to start from, which go when it has, and its
    service's, which go with the service or the revision."""
    if sandbox.state is S.DELETING:
        return sandbox
    if sandbox.spec.protected and not force:
        raise Protected(
            f"sandbox {sandbox.name} is protected; switch that off, or delete it with force", field="protected"
        )
    deleted = await _move(tx, sandbox, S.DELETING, "sandbox.delete", {})
    checkpoints = [each for each in await tx.checkpoints.living_of(sandbox.id) if each.origin is not Origin.SERVICE]
    needed = await tx.sandboxes.waiting_for_checkpoint([each.id for each in checkpoints]) if checkpoints else set[str]()
    for checkpoint in checkpoints:
        if checkpoint.id not in needed:
            await request_deletion(tx, checkpoint)
    return deleted


async def update(
    tx: Transaction,
    sandbox: Sandbox,
    wanted: SandboxUpdate,
    *,
    why_never: WhyNever = none_known,
    share: Sequence[Path] = (),
    held: Held = (),
    used: Stats | None = None,
) -> Sandbox:
    """`used`: what it uses, where it is to have less. Raises RestartNeeded of a change that is good otherwise."""
    if sandbox.state is S.DELETING:
        raise Conflict(f"sandbox {sandbox.name} is being deleted")
    if wanted.ports is not None:
        ports = await claim(tx, wanted.ports, owner=sandbox, held=held)
        wanted = wanted.model_copy(update={"ports": ports})
    joined: dict[str, Any] = {}
    if wanted.networks is not None:
        joined = await networks.change(tx, sandbox, wanted.networks)
        wanted = wanted.model_copy(update={"networks": networks.as_joins(joined["memberships"])})
    spec = _spec_after(wanted, sandbox.spec)
    changed = changes(sandbox.spec, spec)
    if not changed:
        return sandbox
    mounted: dict[str, Any] = {}
    if "mounts" in changed:
        check_mounts(spec, share)
        mounted = {"volumes": await volumes.mounted(tx, spec.mounts)}
        await models.check(tx, spec.mounts)
    if "secrets" in changed:
        await secrets.check(tx, spec.secrets)
    if "queue" in changed:
        await queues.find(tx, spec.queue)
    if not changed.keys().isdisjoint(_SIZES):
        await check_size(tx, spec, why_never)
    if used is not None:
        _check_use(sandbox.spec, spec, used)
    live = _is_intent(sandbox, changed)

    def apply(fresh: Sandbox) -> dict[str, Any]:
        written: dict[str, Any] = {"spec": _spec_after(wanted, fresh.spec), **joined, **mounted}
        if wanted.name is not None:
            written["name"] = wanted.name
        if wanted.services is not None:
            names = wanted.services.keys()
            written["services"] = tuple(status for status in fresh.services if status.name in names)
        if live:  # a change of intent: the machine is told by `apply`, or by the next start
            written |= {
                "generation": fresh.generation + 1,
                "applied": fresh.state not in (S.RUNNING, S.ASLEEP),
            }
        return written

    written = await tx.sandboxes.change(sandbox, apply)
    if written is None:
        raise Conflict(f"sandbox {sandbox.name} has just changed; look, then try again")
    await tx.events.add([("sandbox", written.id, written.name, "updated", _told(changed, sandbox.spec, spec))])
    return written


def _spec_after(wanted: SandboxUpdate, was: SandboxSpec) -> SandboxSpec:
    try:
        return wanted.spec_after(was)
    except ValidationError as error:
        raise explain(error) from None


def _check_use(was: SandboxSpec, now: SandboxSpec, used: Stats) -> None:
    for field, was_bytes, limit_bytes, used_bytes in (
        ("memory", was.memory, now.memory, used.memory_bytes),
        ("disk", was.disk, now.disk, used.disk_bytes),
    ):
        if limit_bytes < was_bytes and limit_bytes < used_bytes:
            raise Conflict(
                f"{field}: {format_size(limit_bytes)} is less than the {format_size(used_bytes)} in use; "
                "ask for more, or free some first",
                field=field,
            )


def _is_intent(sandbox: Sandbox, changed: Mapping[str, Change]) -> bool:
    """Whether its machine is to be told. Raises Conflict in a state in which that cannot be."""
    later = [field for field, change in changed.items() if change is Change.RESTART]
    if later and sandbox.state not in (S.STOPPED, S.FAILED):
        raise RestartNeeded(
            f"sandbox {sandbox.name} is {sandbox.state.value}, and its {', '.join(later)} can only change while it is "
            "stopped: stop it first, or have it reloaded (skerry update --reload)",
            field=later[0],
        )
    told = [field for field, change in changed.items() if change in (Change.LIVE, Change.RESTART)]
    if sandbox.state in AT_REST:
        return bool(told)
    if told not in ([], ["name"]):  # a name may change at any time: the next order carries it
        raise _wrong_state(sandbox, "change", "at rest (running, asleep, stopped or failed)")
    return False


def _told(changed: Mapping[str, Change], was: SandboxSpec, now: SandboxSpec) -> str:
    """For its history: who looks for the moment when something was cut finds it there."""
    told = [field for field in changed if field != "network"]
    if was.network.enabled != now.network.enabled:
        told.append(f"network {'on' if now.network.enabled else 'off'}")
    policy = now.network.policy
    if was.network.policy != policy:
        told.append(f"policy: default {policy.default.value}, {len(policy.rules)} rules")
    return ", ".join(told)


async def _move(
    tx: Transaction, sandbox: Sandbox, to: S, kind: str, changes: dict[str, Any], *, message: str = ""
) -> Sandbox:
    """A change of intent: one generation more, so that a machine never obeys an older one again."""
    operation: Operation = tx.operations.new(kind, sandbox.id, tx.project)
    written = await tx.sandboxes.move(
        sandbox,
        to,
        to.value,
        message=message,
        operation=operation,
        changes={**changes, "generation": sandbox.generation + 1},
    )
    if written is None:
        raise Conflict(f"sandbox {sandbox.name} has just changed; look, then try again")
    return written


def _wrong_state(sandbox: Sandbox, verb: str, wanted: str) -> Conflict:
    return Conflict(f"cannot {verb} sandbox {sandbox.name}: it is {sandbox.state.value}, and must be {wanted}")
