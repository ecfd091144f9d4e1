"""What may be asked of a sandbox and when: create, start, stop, restore, delete, update. Each is one transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from skerry.control.intents import networks
from skerry.control.intents.checkpoints import request_deletion
from skerry.control.intents.ports import Held, claim, claim_again
from skerry.errors import Conflict, Invalid, LimitReached, NotFound, Protected
from skerry.model.checkpoint import CheckpointState
from skerry.model.fields import format_size
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageState
from skerry.model.operation import Operation
from skerry.model.policy import Policy
from skerry.model.sandbox import AT_REST, LIVE, MOVES, S, Sandbox, SandboxSpec, SandboxUpdate
from skerry.scheduler.place import largest
from skerry.store.transaction import Transaction


class SandboxIntents:
    """The arrows that these functions take, and nobody else: all that the table gives to `api`."""

    moves: ClassVar = frozenset(
        {
            (S.STOPPED, S.STARTING),
            (S.FAILED, S.STARTING),
            (S.FAILED, S.PENDING),
            (S.STARTING, S.STOPPING),
            (S.RUNNING, S.STOPPING),
            (S.RUNNING, S.RESTORING),
            (S.ASLEEP, S.STOPPING),
            (S.ASLEEP, S.RESTORING),
            (S.STOPPED, S.RESTORING),
            (S.FAILED, S.RESTORING),
            *((was, S.DELETING) for was in S if (was, S.DELETING) in MOVES),
        }
    )


def check_mounts(spec: SandboxSpec, share: Sequence[Path]) -> None:
    """Raises Invalid for a host folder outside what the operator shares; symlinks are followed before judging."""
    allowed = [folder.resolve() for folder in share]
    for number, mount in enumerate(spec.mounts):
        source = Path(mount.source).resolve()
        if not any(source.is_relative_to(folder) for folder in allowed):
            below = ", ".join(str(folder) for folder in allowed)
            hint = f"allowed are {below} and what is below" if below else "this server shares none (serve --share)"
            raise Invalid(
                f"mounts[{number}].source: {mount.source} is not shared; {hint}", field=f"mounts[{number}].source"
            )


async def _check_size(tx: Transaction, spec: SandboxSpec) -> None:
    """A sandbox that no machine could ever run is refused at once; it must not be pending for ever."""
    nodes = await tx.nodes.all()
    if not nodes:
        return
    cpu, memory_bytes = largest([(node.cpu, node.memory_bytes) for node in nodes])
    if spec.cpu > cpu:
        raise Invalid(f"cpu: {spec.cpu:g} is not allowed; the largest machine has {cpu:g}", field="cpu")
    if spec.memory > memory_bytes:
        has = format_size(memory_bytes)
        raise Invalid(
            f"memory: {format_size(spec.memory)} is not allowed; the largest machine has {has}", field="memory"
        )


async def check_count(tx: Transaction, count: int, sandboxes_max: int) -> None:
    if await tx.sandboxes.count_living() + count > sandboxes_max * max(1, len(await tx.nodes.all())):
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
    tx: Transaction, spec: SandboxSpec, *, share: Sequence[Path], sandboxes_max: int, held: Held = ()
) -> Sandbox:
    check_mounts(spec, share)
    image = await find_image(tx, spec.image)
    await _check_size(tx, spec)
    await check_count(tx, 1, sandboxes_max)
    sandbox_id = make_id("sandbox", tx.chance(6))
    name = spec.name or _free_name(image.name, tx.chance(3))
    ports = await claim(tx, spec.ports, owner=None, held=held)
    memberships = await networks.join(tx, spec.networks)
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
        generation=1,
        image_digest=image.digest,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await tx.sandboxes.insert([sandbox], [operation])
    return sandbox


def _free_name(image: str, chance: bytes) -> str:
    """`team/debian:12` -> debian-3f9a1c: says what it is, and is free but for one chance in 16 million."""
    base = re.sub(r"[^a-z0-9-]", "-", image.rsplit("/", 1)[-1].partition(":")[0]).strip("-")[:40].strip("-")
    return f"{base or 'box'}-{chance.hex()}"


async def start(tx: Transaction, sandbox: Sandbox) -> Sandbox:
    match sandbox.state:
        case S.RUNNING | S.ASLEEP | S.STARTING | S.PENDING:
            return sandbox
        case S.STOPPED | S.FAILED:
            placed = sandbox.node is not None and sandbox.image_digest is not None
            to = S.STARTING if placed else S.PENDING
            changes = {"reason": None, **await claim_again(tx, sandbox)}
            return await _move(tx, sandbox, to, "sandbox.start", changes)
        case _:
            raise _wrong_state(sandbox, "start", "stopped or failed")


async def stop(tx: Transaction, sandbox: Sandbox, grace_s: float) -> Sandbox:
    match sandbox.state:
        case S.STOPPED | S.STOPPING:
            return sandbox
        case S.RUNNING | S.ASLEEP | S.STARTING:
            return await _move(tx, sandbox, S.STOPPING, "sandbox.stop", {"stop_grace_s": grace_s})
        case _:
            raise _wrong_state(sandbox, "stop", "running")


async def restore(tx: Transaction, sandbox: Sandbox, checkpoint_ref: str) -> Sandbox:
    if sandbox.state not in (S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED):
        raise _wrong_state(sandbox, "restore", "running, asleep, stopped or failed")
    checkpoint = await tx.checkpoints.find_of(sandbox.id, checkpoint_ref)
    if checkpoint.state is not CheckpointState.READY:
        raise Conflict(f"checkpoint v{checkpoint.number} is {checkpoint.state.value}; only a ready one can be restored")
    changes = {"restore_checkpoint": checkpoint.id, "reason": None, **await claim_again(tx, sandbox)}
    return await _move(tx, sandbox, S.RESTORING, "sandbox.restore", changes, message=f"v{checkpoint.number}")


async def delete(tx: Transaction, sandbox: Sandbox, *, force: bool) -> Sandbox:
    """Its checkpoints go with it, but for those that a fork still has to start from: they go when it has."""
    if sandbox.state is S.DELETING:
        return sandbox
    if sandbox.spec.protected and not force:
        raise Protected(
            f"sandbox {sandbox.name} is protected; switch that off, or delete it with force", field="protected"
        )
    deleted = await _move(tx, sandbox, S.DELETING, "sandbox.delete", {})
    checkpoints = await tx.checkpoints.living_of(sandbox.id)
    needed = await tx.sandboxes.waiting_for_checkpoint([each.id for each in checkpoints]) if checkpoints else set[str]()
    for checkpoint in checkpoints:
        if checkpoint.id not in needed:
            await request_deletion(tx, checkpoint)
    return deleted


async def update(tx: Transaction, sandbox: Sandbox, wanted: SandboxUpdate, held: Held = ()) -> Sandbox:
    if sandbox.state is S.DELETING:
        raise Conflict(f"sandbox {sandbox.name} is being deleted")
    if wanted.ports is not None:
        ports = await claim(tx, wanted.ports, owner=sandbox.id, held=held)
        wanted = wanted.model_copy(update={"ports": ports})
    joined: dict[str, Any] = {}
    if wanted.networks is not None:
        joined = await networks.change(tx, sandbox, wanted.networks)
        wanted = wanted.model_copy(update={"networks": networks.as_joins(joined["memberships"])})
    given = wanted.model_dump(exclude_none=True)
    policy = given.pop("policy", None)
    told = [*given, *([_told(wanted.policy)] if wanted.policy is not None else [])]

    live = policy is not None or not LIVE.isdisjoint(given)
    if live and sandbox.state not in AT_REST:
        live = False  # a name alone may change at any time: the next order carries it
        if not LIVE.isdisjoint(given.keys() - {"name"}):
            raise _wrong_state(sandbox, "change", "at rest (running, asleep, stopped or failed)")

    def apply(fresh: Sandbox) -> dict[str, Any]:
        spec = {**fresh.spec.model_dump(), **given}
        if policy is not None:
            spec["network"] = {"enabled": fresh.spec.network.enabled, **policy}
        changes: dict[str, Any] = {"spec": SandboxSpec.model_validate(spec), **joined}
        if "name" in given:
            changes["name"] = given["name"]
        if "services" in given:
            names = given["services"].keys()
            changes["services"] = tuple(status for status in fresh.services if status.name in names)
        if live:  # a change of intent: the machine is told by `apply`, or by the next start
            changes |= {
                "generation": fresh.generation + 1,
                "applied": fresh.state not in (S.RUNNING, S.ASLEEP),
            }
        return changes

    written = await tx.sandboxes.change(sandbox, apply)
    if written is None:
        raise Conflict(f"sandbox {sandbox.name} has just changed; look, then try again")
    await tx.events.add([("sandbox", written.id, written.name, "updated", ", ".join(told))])
    return written


def _told(policy: Policy) -> str:
    """For its history: who looks for the moment when something was cut finds it there."""
    return f"policy: default {policy.default.value}, {len(policy.rules)} rules"


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
