"""Asking for checkpoints and for their deletion: used by the API, by policies, by guests and by forks alike."""

from __future__ import annotations

from typing import ClassVar

from skerry.errors import Conflict, InUse, LimitReached, NotFound
from skerry.model.checkpoint import CHECKPOINTS_PER_SANDBOX_MAX, Checkpoint, CheckpointState, Origin
from skerry.model.identity import make_id
from skerry.model.sandbox import S, Sandbox
from skerry.store.transaction import Transaction

_C = CheckpointState


class CheckpointIntents:
    """The arrows that these functions take, and nobody else."""

    moves: ClassVar = frozenset({(was, _C.DELETING) for was in (_C.CREATING, _C.READY, _C.FAILED)})


def require_disk(sandbox: Sandbox, verb: str) -> None:
    """Raises Conflict unless there is a disk that nobody is making or swapping right now."""
    if sandbox.state in (S.RUNNING, S.ASLEEP):
        return
    if sandbox.state in (S.STOPPED, S.FAILED) and sandbox.started_at is not None:
        return
    if sandbox.state in (S.STOPPED, S.FAILED):
        raise Conflict(f"sandbox {sandbox.name} has never run and has no disk yet; start it first")
    raise Conflict(f"sandbox {sandbox.name} is {sandbox.state.value}; {verb} it when it is running or stopped")


async def request_checkpoint(
    tx: Transaction, sandbox_id: str, origin: Origin, *, comment: str = "", request_id: str | None = None
) -> Checkpoint:
    sandbox = await tx.sandboxes.get(sandbox_id)
    if sandbox is None or sandbox.state is S.DELETED:
        raise NotFound(f"there is no sandbox {sandbox_id}")
    require_disk(sandbox, "checkpoint")
    # Counting up locks the sandbox's row, so that two requests at once cannot both be the last allowed one.
    number = await tx.sandboxes.next_checkpoint_number(sandbox.id)
    if await tx.checkpoints.count_of(sandbox.id) >= CHECKPOINTS_PER_SANDBOX_MAX:
        raise LimitReached(
            f"sandbox {sandbox.name} has {CHECKPOINTS_PER_SANDBOX_MAX} checkpoints, the most allowed; delete some"
        )
    assert sandbox.image_digest is not None
    assert sandbox.node is not None
    checkpoint_id = make_id("checkpoint", tx.chance(6))
    operation = tx.operations.new("checkpoint.create", checkpoint_id, tx.project)
    checkpoint = Checkpoint(
        id=checkpoint_id,
        project=sandbox.project,
        sandbox=sandbox.id,
        number=number,
        state=_C.CREATING,
        origin=origin,
        comment=comment,
        spec=sandbox.spec,
        volumes=sandbox.volumes,
        image_digest=sandbox.image_digest,
        node=sandbox.node,
        request_id=request_id,
        operation=operation.id,
        created_at=tx.now,
    )
    await tx.checkpoints.insert([checkpoint], [operation], message=f"{origin.value}, of {sandbox.name}")
    return checkpoint


async def request_deletion(tx: Transaction, checkpoint: Checkpoint) -> Checkpoint:
    """Raises InUse while a fork still has to make its disk from it."""
    if checkpoint.state is _C.DELETING:
        return checkpoint
    if await tx.sandboxes.waiting_for_checkpoint([checkpoint.id]):
        raise InUse(f"checkpoint v{checkpoint.number} is being forked; delete it when its forks run")
    operation = tx.operations.new("checkpoint.delete", checkpoint.id, tx.project)
    written = await tx.checkpoints.move(checkpoint, _C.DELETING, "deleting", operation=operation)
    if written is None:
        raise Conflict(f"checkpoint v{checkpoint.number} has just changed; look, then try again")
    return written
