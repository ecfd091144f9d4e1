"""Take and let go of the checkpoints that a service's replicas start from, in the transaction that decided so: one that
its record does not name was never asked for, so that nothing is taken twice or left over when control dies."""

from __future__ import annotations

from typing import Any

from skerry.control.intents.checkpoints import request_checkpoint, request_deletion
from skerry.control.reconcile.services.facts import Plan
from skerry.errors import InUse
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.service import Service, StartDisk
from skerry.store.transaction import Transaction

THERE = (CheckpointState.CREATING, CheckpointState.READY, CheckpointState.FAILED)


async def keep_checkpoints(tx: Transaction, service: Service, plan: Plan) -> dict[str, Any]:
    """What changes of the service with it."""
    kept = dict(service.checkpoints)
    for checkpoint in plan.spoilt:
        await _let_go(tx, checkpoint)
    for revision, retry_at in plan.take_again.items():
        kept[revision] = kept[revision].model_copy(update={"retry_at": retry_at})
    for revision in plan.forget:
        found = await tx.checkpoints.get(kept[revision].checkpoint)
        if found is None or await _let_go(tx, found):
            del kept[revision]
    for revision, box in plan.take.items():
        comment = f"of service {service.name}, revision {revision}"
        made = await request_checkpoint(tx, box.id, Origin.SERVICE, comment=comment)
        tries = kept[revision].tries + 1 if revision in kept else 1
        kept[revision] = StartDisk(checkpoint=made.id, tries=tries)
    return {"checkpoints": kept} if kept != service.checkpoints else {}


async def _let_go(tx: Transaction, checkpoint: Checkpoint) -> bool:
    if checkpoint.state not in THERE:
        return True
    try:
        await request_deletion(tx, checkpoint)
    except InUse:
        return False  # a replica still has to make its disk from it: at another look
    return True
