"""A fork is a create whose source is a checkpoint: of the sandbox as it is now, or one that exists."""

from __future__ import annotations

from skerry.control.intents.checkpoints import request_checkpoint, require_disk
from skerry.control.intents.models import check as check_models
from skerry.control.intents.networks import as_joins, join_forks
from skerry.control.intents.ports import Held, claim_for_forks
from skerry.control.intents.queues import admit
from skerry.control.intents.sandboxes import check_count
from skerry.control.intents.secrets import check as check_secrets
from skerry.control.intents.volumes import mounted
from skerry.errors import Conflict, Invalid
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.fields import LABELS_MAX
from skerry.model.identity import make_id
from skerry.model.labels import own_labels
from skerry.model.sandbox import ForkRequest, S, Sandbox
from skerry.store.transaction import Transaction

NAME_CHARACTERS_MAX = 63
NOT_INHERITED = {"protected": False, "public": False, "hostname": None}
"""A copy is not precious because its parent is, nor open to everybody, nor does it answer to its parent's name. Nor is
it what a `skerry.yaml` declares: without the labels of an environment no `up` or `destroy` takes it for a member."""


async def fork(
    tx: Transaction, parent: Sandbox, request: ForkRequest, *, sandboxes_max: int, held: Held = (), owner: str = ""
) -> list[Sandbox]:
    """`owner`: name of the key that asks for them."""
    await check_count(tx, request.count, sandboxes_max)
    names = free_names(
        request.name or parent.name,
        request.count,
        await tx.sandboxes.names_beginning(tx.project, f"{request.name or parent.name}-"),
    )
    checkpoint = await _source(tx, parent, request)
    labels = _labels(checkpoint.spec.labels, request)
    await admit(tx, checkpoint.spec.queue, owner=owner, count=request.count)
    await check_secrets(tx, parent.spec.secrets)
    await check_models(tx, checkpoint.spec.mounts)
    ports = await claim_for_forks(tx, checkpoint.spec.ports, request.count, held)
    memberships = await join_forks(tx, parent.spec.networks, request.count)
    volumes = await mounted(tx, checkpoint.spec.mounts, meant=checkpoint.volumes)
    forks: list[Sandbox] = []
    for name, own, joined in zip(names, ports, memberships, strict=True):
        sandbox_id = make_id("sandbox", tx.chance(6))
        forks.append(
            Sandbox(
                id=sandbox_id,
                project=tx.project,
                name=name,
                state=S.PENDING,
                spec=checkpoint.spec.model_copy(
                    update={
                        "name": name,
                        "labels": labels,
                        **NOT_INHERITED,
                        "ports": own,
                        # As it is now: a fork of an old disk must not bring back what has been forbidden since.
                        "network": parent.spec.network,
                        "secrets": parent.spec.secrets,
                        "networks": as_joins(joined),
                    }
                ),
                generation=1,
                owner=owner,
                memberships=joined,
                volumes=volumes,
                image_digest=checkpoint.image_digest,
                parent=parent.id,
                source_checkpoint=checkpoint.id,
                created_at=tx.now,
                updated_at=tx.now,
            )
        )
    operations = [tx.operations.new("sandbox.fork", sandbox.id, tx.project) for sandbox in forks]
    forks = [
        sandbox.model_copy(update={"operation": operation.id})
        for sandbox, operation in zip(forks, operations, strict=True)
    ]
    await tx.sandboxes.insert(forks, operations, message=f"forked from {parent.name}")
    return forks


def _labels(of_parent: dict[str, str], request: ForkRequest) -> dict[str, str]:
    labels = {**own_labels(of_parent), **request.labels}
    if len(labels) > LABELS_MAX:
        raise Invalid(
            f"labels: with the parent's there would be {len(labels)}; at most {LABELS_MAX} are allowed", field="labels"
        )
    return labels


async def _source(tx: Transaction, parent: Sandbox, request: ForkRequest) -> Checkpoint:
    if request.checkpoint is None:
        require_disk(parent, "fork")
        return await request_checkpoint(tx, parent.id, Origin.FORK, comment="taken to fork")
    checkpoint = await tx.checkpoints.find_of(parent.id, request.checkpoint)
    if checkpoint.state not in (CheckpointState.READY, CheckpointState.CREATING):
        raise Conflict(f"checkpoint v{checkpoint.number} is {checkpoint.state.value}; only a ready one can be forked")
    return checkpoint


def free_names(beginning: str, count: int, taken: set[str]) -> list[str]:
    """NAME-1, NAME-2, … without those taken."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        number += 1
        name = f"{beginning}-{number}"
        if name not in taken:
            names.append(name)
    if len(names[-1]) > NAME_CHARACTERS_MAX:
        raise Invalid(
            f"name: {names[-1]} would be longer than {NAME_CHARACTERS_MAX} characters; give a shorter one",
            field="name",
        )
    return names
