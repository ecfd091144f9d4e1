"""Asking a sandbox to give up its place, for others or since its node is drained, and letting it come back."""

from __future__ import annotations

from skerry.control.intents import sandboxes
from skerry.model.sandbox import HOLDS_PLACE, S, Sandbox
from skerry.store.transaction import Transaction


async def evict(tx: Transaction, sandbox_id: str, why: str, *, grace_s: float, for_others: bool) -> bool:
    """False: it has no place to give up, or gives it up already. A job's members have the grace of their job.
    `for_others`: it counts in the budget of its queue."""
    sandbox = await tx.sandboxes.get(sandbox_id)
    if sandbox is None or sandbox.evicted or sandbox.state not in HOLDS_PLACE or sandbox.state is S.STOPPING:
        return False
    grace_s = sandbox.stop_grace_s if sandbox.job is not None else grace_s
    written = await tx.sandboxes.change(sandbox, {"evicted": why, "stop_grace_s": grace_s})
    if written is None:
        return False
    if for_others:
        await tx.stays.evict(written.id)
    await tx.events.add([("sandbox", written.id, written.name, "evicted", why)])
    return True


async def come_back(tx: Transaction, sandbox: Sandbox) -> Sandbox:
    """Into its queue, before all that came after it: it has waited its turn once. A job's member does not: its job
    starts the whole task anew."""
    return await sandboxes.start(tx, sandbox, evicted=sandbox.evicted, queued_at=sandbox.queued_at)
