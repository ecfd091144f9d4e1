"""What may be asked of queues, and who may put work into which: decided and written in one transaction."""

from __future__ import annotations

from pydantic import ValidationError

from skerry.errors import Conflict, InUse, LimitReached, NotFound, Protected
from skerry.model.explain import explain
from skerry.model.identity import QUEUE_DEFAULT
from skerry.model.nearness import did_you_mean
from skerry.model.queue import QUEUES_MAX, Queue, QueueSpec, QueueUpdate
from skerry.store.transaction import Transaction

NAMED_MAX = 5


async def create(tx: Transaction, spec: QueueSpec) -> Queue:
    await tx.queues.lock()
    if await tx.queues.count() >= QUEUES_MAX:
        raise LimitReached(f"there may be {QUEUES_MAX} queues; delete some")
    return await tx.queues.create(spec)


async def update(tx: Transaction, queue: Queue, wanted: QueueUpdate) -> Queue:
    try:
        spec = wanted.spec_after(queue.spec)
    except ValidationError as error:
        raise explain(error) from None
    changed = [field for field in QueueSpec.model_fields if getattr(spec, field) != getattr(queue.spec, field)]
    if not changed:
        return queue
    written = await tx.queues.change(queue, spec, ", ".join(changed))
    if written is None:
        raise Conflict(f"queue {queue.name} has just been changed by somebody else; look, then try again")
    return written


async def delete(tx: Transaction, queue: Queue) -> None:
    """Raises InUse while anything waits or runs in it, or would when it is started."""
    if queue.name == QUEUE_DEFAULT:
        raise Protected(f"queue {QUEUE_DEFAULT} is always there: it can be changed, and not deleted")
    await tx.queues.lock()
    if going_on := await tx.jobs.count_going_on(queue=queue.name):
        raise InUse(f"queue {queue.name} has {going_on} jobs that have not ended; wait for them, or cancel them")
    names, count = await tx.sandboxes.names_in_queue(queue.name, NAMED_MAX)
    if count:
        more = f" and {count - len(names)} more" if count > len(names) else ""
        raise InUse(
            f"queue {queue.name} has work in it: {', '.join(names)}{more}; delete it, or give it another queue "
            "(skerry update --queue)"
        )
    if jobs := await tx.jobs.count_going_on(queue=queue.name):
        raise InUse(
            f"queue {queue.name} has {jobs} jobs in it that have not ended; cancel them (skerry job list --queue "
            f"{queue.name})"
        )
    await tx.queues.delete(queue)


async def admit(tx: Transaction, name: str, *, owner: str, count: int = 1) -> Queue:
    """The queue that so many more of this owner are about to wait in. Raises NotFound, and LimitReached where the queue
    or a quota lets no more of them wait."""
    queue = await find(tx, name)
    spec = queue.spec
    if await tx.sandboxes.count_pending(spec.pending_max) + count > spec.pending_max:  # the whole cloud: quick to tell
        waiting = await tx.sandboxes.count_pending(spec.pending_max, queue=name)
        if waiting + count > spec.pending_max:
            raise LimitReached(f"queue {name}: {spec.pending_max} may wait in it, and {waiting} do (pending_max)")
    for quota in spec.quotas:
        if quota.pending_max is None or quota.project != tx.project or quota.user not in (None, owner):
            continue
        waiting = await tx.sandboxes.count_pending(
            quota.pending_max + 1, queue=name, project=quota.project, owner=quota.user
        )
        if waiting + count > quota.pending_max:
            whose = f"project {quota.project}" if quota.user is None else f"user {quota.user}"
            raise LimitReached(
                f"queue {name}: {quota.pending_max} of {whose} may wait in it, and {waiting} do (pending_max)"
            )
    return queue


async def find(tx: Transaction, name: str, field: str = "queue") -> Queue:
    """It stays at least until this transaction ends."""
    await tx.queues.lock_shared()
    queue = await tx.queues.named(name)
    if queue is None:
        hint = did_you_mean(name, [each.name for each in await tx.queues.all()])
        hint = hint or f"; make it with: skerry queue create {name}"
        raise NotFound(f"{field}: there is no queue {name}{hint}", field=field)
    return queue
