"""Make the sandboxes of a service's next replicas, in one transaction with the count of those that were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from skerry.control.intents import model_places, networks, queues
from skerry.control.intents.sandboxes import check_count
from skerry.control.launching import Ordered, order
from skerry.control.reconcile.services.decide import BACKOFF_FIRST_S, BACKOFF_S_MAX
from skerry.control.reconcile.services.facts import Plan, replica_of
from skerry.errors import NoRoom, SkerryError
from skerry.model.checkpoint import Checkpoint
from skerry.model.network import Membership
from skerry.model.node import NodeState
from skerry.model.replica import Role, replica_id
from skerry.model.sandbox import S, Sandbox
from skerry.model.service import Revision, Service
from skerry.store.transaction import Transaction

AT_ONCE = 64
"""Made in one transaction; the others by the next look."""


class MakeReplicas:
    def __init__(self, *, sandboxes_max: int) -> None:
        self._sandboxes_max = sandboxes_max

    async def __call__(self, tx: Transaction, service: Service, plan: Plan) -> dict[str, Any]:
        """What changes of the service with it. Where none can be made for now that says so, and when to try again."""
        changes = plan.changes
        try:
            boxes = await self._boxes(tx, service, plan.make[:AT_ONCE], plan.sources)
        except NoRoom as error:  # that passes by itself
            wait_s = error.retry_after_s or BACKOFF_FIRST_S
            return {"retry_at": tx.now + timedelta(seconds=wait_s), "reason": error.say}
        except SkerryError as error:
            failures = changes.get("failures", service.failures) + 1
            wait_s = min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 30), BACKOFF_S_MAX)
            retry_at = tx.now + timedelta(seconds=wait_s)
            return {"failures": failures, "failure": error.say, "retry_at": retry_at}
        await tx.sandboxes.insert(boxes, [], message=f"of service {service.name}")
        return {"made": service.made + len(boxes)}

    async def _boxes(
        self,
        tx: Transaction,
        service: Service,
        wanted: Sequence[tuple[int, Role]],
        sources: Mapping[int, Checkpoint],
    ) -> list[Sandbox]:
        numbers = sorted({revision for revision, _ in wanted})
        revisions = {each.number: each for each in await tx.services.revisions(service.id, numbers)}
        await check_count(tx, len(wanted), self._sandboxes_max)
        joins = service.spec.networks
        memberships = await networks.join_forks(tx, joins, len(wanted))
        made: list[Sandbox] = []
        places = {number: await model_places.found(tx, each.spec) for number, each in revisions.items()}
        usable = await _usable(tx, sources)
        for at, (number, role) in enumerate(wanted):
            revision, source = revisions[number], usable.get(number)
            prepared = source is not None
            next_number = service.made + at + 1
            ordered = order(service.id, service.name, revision, next_number, role, places[number], prepared=prepared)
            made.append(_box(tx, service, revision, ordered, memberships[at], source))
        for queue in {box.spec.queue for box in made}:
            await queues.admit(tx, queue, owner=service.owner, count=len(made))
        return made


async def taking(tx: Transaction) -> frozenset[str]:
    """Ids of machines that take somebody."""
    there = [node for node in await tx.nodes.all() if node.state is NodeState.READY]
    return frozenset(node.id for node in there if not node.cordoned and not node.draining)


async def from_image(tx: Transaction, service: Service, boxes: Sequence[Sandbox]) -> bool:
    """Have those that wait for a place as forks start from the image. False: one has its place already."""
    numbers = sorted({replica_of(box).revision for box in boxes})
    for revision in await tx.services.revisions(service.id, numbers):
        places = await model_places.found(tx, revision.spec)
        for box in boxes:
            replica = replica_of(box)
            if replica.revision != revision.number:
                continue
            ordered = order(service.id, service.name, revision, replica.number, replica.role, places)
            spec = box.spec.model_copy(update={"command": ordered.spec.command})
            changes = {"spec": spec, "parent": None, "source_checkpoint": None, "generation": box.generation + 1}
            if await tx.sandboxes.change(box, changes) is None:
                return False
    said = "it starts from the image, wherever there is room"
    # What places it hears of changes by events.
    await tx.events.add([("sandbox", box.id, box.name, "updated", said) for box in boxes])
    return True


async def _usable(tx: Transaction, sources: Mapping[int, Checkpoint]) -> dict[int, Checkpoint]:
    """Those on a machine that takes somebody: a fork can start nowhere else, and from the image anywhere."""
    if not sources:
        return {}
    nodes = await taking(tx)
    found: dict[int, Checkpoint] = {}
    for number, checkpoint in sources.items():
        homes = {volume.node for volume in await tx.volumes.with_ids(sorted(checkpoint.volumes.values()))}
        if checkpoint.node in nodes and homes <= {None, checkpoint.node}:
            found[number] = checkpoint
    return found


def _box(
    tx: Transaction,
    service: Service,
    revision: Revision,
    ordered: Ordered,
    memberships: Sequence[Membership],
    source: Checkpoint | None,
) -> Sandbox:
    number = ordered.replica.number
    return Sandbox(
        id=replica_id(service.id, number),
        project=service.project,
        name=ordered.spec.name or "",
        state=S.PENDING,
        spec=ordered.spec.model_copy(update={"networks": networks.as_joins(memberships)}),
        generation=1,
        owner=service.owner,
        replica=ordered.replica,
        image_digest=revision.image_digest,
        parent=source.sandbox if source is not None else None,
        source_checkpoint=source.id if source is not None else None,
        memberships=list(memberships),
        volumes=revision.volumes,
        created_at=tx.now,
        updated_at=tx.now,
    )
