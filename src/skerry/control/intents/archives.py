"""What an archive says of a sandbox, and what has to be so here for the sandbox of an archive to become one of ours."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from skerry import __version__
from skerry.control.intents import models, networks, queues, secrets, volumes
from skerry.control.intents.capacity import WhyNever, check_size
from skerry.control.intents.checkpoints import require_disk
from skerry.control.intents.ports import Held, claim
from skerry.control.intents.sandboxes import check_count, mount_problems
from skerry.errors import AlreadyExists, Conflict, LimitReached, SkerryError
from skerry.model.archive import (
    ARCHIVED_CHECKPOINTS_MAX,
    ArchivedCheckpoint,
    ArchivedImage,
    ArchivedSandbox,
    ArchiveOrder,
    ImportRequest,
    needs_of,
)
from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageConfig, ImageState
from skerry.model.labels import own_labels
from skerry.model.network import Membership
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox, SandboxSpec
from skerry.store.transaction import Transaction

DIGEST_DIGITS = 12
"""Of an image's digest, behind its tag, where another image has its name here."""


async def archive_order(tx: Transaction, sandbox: Sandbox) -> ArchiveOrder:
    """Raises Conflict while it has no disk, LimitReached with more checkpoints than an archive takes."""
    require_disk(sandbox, "export")
    assert sandbox.image_digest is not None
    assert sandbox.started_at is not None
    kept = [
        checkpoint
        for checkpoint in await tx.checkpoints.living_of(sandbox.id)
        if checkpoint.state is CheckpointState.READY and checkpoint.origin is not Origin.FORK
    ]
    kept.sort(key=lambda checkpoint: checkpoint.number)
    if len(kept) > ARCHIVED_CHECKPOINTS_MAX:
        raise LimitReached(
            f"sandbox {sandbox.name} has {len(kept)} checkpoints; an archive takes {ARCHIVED_CHECKPOINTS_MAX}: "
            "delete some"
        )
    document = ArchivedSandbox(
        skerry=__version__,
        sandbox=sandbox.id,
        name=sandbox.name,
        spec=sandbox.spec,
        running=sandbox.state in (S.RUNNING, S.ASLEEP),
        parent=sandbox.parent,
        source_checkpoint=sandbox.source_checkpoint,
        image=ArchivedImage(name=sandbox.spec.image, digest=sandbox.image_digest),
        needs=needs_of(sandbox.spec),
        checkpoints=[
            ArchivedCheckpoint(
                number=checkpoint.number,
                origin=checkpoint.origin,
                comment=checkpoint.comment,
                spec=checkpoint.spec,
                created_at=checkpoint.created_at,
                frozen_ms=checkpoint.frozen_ms,
            )
            for checkpoint in kept
        ],
        created_at=sandbox.created_at,
        started_at=sandbox.started_at,
        exported_at=tx.now,
    )
    return ArchiveOrder(document=document, checkpoints=[checkpoint.id for checkpoint in kept])


@dataclass(frozen=True)
class Fitted:
    """A sandbox as it can be here."""

    spec: SandboxSpec
    memberships: list[Membership]
    volumes: dict[str, str]
    start: bool


async def fit(
    tx: Transaction,
    document: ArchivedSandbox,
    asked: ImportRequest,
    *,
    why_never: WhyNever,
    share: Sequence[Path],
    sandboxes_max: int,
    held: Held,
) -> Fitted:
    """Raises what stands in the way; where that is more than one thing, a Conflict that lists them all."""
    name = asked.name or document.name
    start = document.running if asked.start is None else asked.start
    # Of the environment that it was in, the server that it comes to may have another of this name.
    labels = own_labels(document.spec.labels)
    dropped: dict[str, object] = {field.value: [] for field in asked.drop}
    spec = document.spec.model_copy(update={"name": name, "labels": labels, **dropped})
    problems: list[SkerryError] = list(mount_problems(spec, share))
    with _noted(problems):
        await check_count(tx, 1, sandboxes_max)
    with _noted(problems):
        await check_size(tx, spec, why_never)
    with _noted(problems):
        await check_name(tx, name)
    with _noted(problems):
        await queues.find(tx, spec.queue)
    memberships, mounted = await _named(tx, spec, problems)
    ports = spec.ports
    if start:  # one that is stopped claims its ports when it starts, as ever
        with _noted(problems):
            ports = await claim(tx, spec.ports, owner=None, held=held)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        said = "; ".join(problem.say for problem in problems)
        raise Conflict(f"this server lacks what the sandbox needs: {said}", field=problems[0].field)
    spec = spec.model_copy(update={"ports": ports, "networks": networks.as_joins(memberships)})
    return Fitted(spec, memberships, mounted, start)


async def _named(
    tx: Transaction, spec: SandboxSpec, problems: list[SkerryError]
) -> tuple[list[Membership], dict[str, str]]:
    """What it joins and mounts, of what its spec names of other nouns; whatever is missing goes to `problems`."""
    memberships: list[Membership] = []
    missing = len(problems)
    for number, join in enumerate(spec.networks):
        with _noted(problems):
            await networks.find(tx, join.name, f"networks[{number}].name")
    if len(problems) == missing:
        with _noted(problems):
            memberships = await networks.join(tx, spec.networks)
    mounted: dict[str, str] = {}
    for number, mount in enumerate(spec.mounts):
        with _noted(problems):
            mounted |= await volumes.mounted(tx, [mount], first=number)
            await models.check(tx, [mount], first=number)
    for number, use in enumerate(spec.secrets):
        with _noted(problems):
            await secrets.check(tx, [use], first=number)
    return memberships, mounted


@contextmanager
def _noted(problems: list[SkerryError]) -> Generator[None]:
    try:
        yield
    except SkerryError as error:
        problems.append(error)


async def check_name(tx: Transaction, name: str) -> None:
    if name in await tx.sandboxes.names_beginning(tx.project, name):
        raise AlreadyExists(f"name: {name} is taken by another sandbox; choose another", field="name")


async def is_copy(tx: Transaction, document: ArchivedSandbox) -> bool:
    """Whether the sandbox it was, or one that came of it, lives here: then it must become another computer."""
    origin = await tx.sandboxes.get(document.sandbox)
    return (origin is not None and origin.state is not S.DELETED) or await tx.sandboxes.has_children(document.sandbox)


async def admit(
    tx: Transaction,
    document: ArchivedSandbox,
    fitted: Fitted,
    *,
    sandbox_id: str,
    checkpoint_ids: Sequence[str],
    made: tuple[str, int, ImageConfig],
    owner: str = "",
) -> Sandbox:
    """Its disks are made: write all of it down. `made`: the image that they stand on. `owner`: name of the key that
    brought it."""
    node = (await tx.nodes.all())[0].id
    image = await _image(tx, document.image.name, node, made)
    operation = tx.operations.new("sandbox.import", sandbox_id, tx.project)
    assert fitted.spec.name is not None
    sandbox = Sandbox(
        id=sandbox_id,
        project=tx.project,
        name=fitted.spec.name,
        state=S.PENDING if fitted.start else S.STOPPED,
        spec=fitted.spec.model_copy(update={"image": image.name}),
        memberships=fitted.memberships,
        volumes=fitted.volumes,
        generation=1,
        owner=owner,
        node=node,
        image_digest=image.digest,
        exit=None if fitted.start else Exit(reason=ExitReason.STOPPED, at=tx.now),
        parent=document.sandbox,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
        started_at=document.started_at,
    )
    await tx.sandboxes.insert([sandbox], [operation], message=f"imported; it was {document.sandbox}")
    if not fitted.start:
        await tx.operations.finish(operation.id, None)
    for checkpoint_id, archived in zip(checkpoint_ids, document.checkpoints, strict=True):
        await _checkpoint(tx, sandbox, checkpoint_id, archived)
    if document.checkpoints:
        await tx.sandboxes.number_checkpoints_after(sandbox.id, document.checkpoints[-1].number)
    return sandbox


async def _checkpoint(tx: Transaction, sandbox: Sandbox, checkpoint_id: str, archived: ArchivedCheckpoint) -> None:
    assert sandbox.image_digest is not None
    assert sandbox.node is not None
    checkpoint = Checkpoint(
        id=checkpoint_id,
        project=tx.project,
        sandbox=sandbox.id,
        number=archived.number,
        state=CheckpointState.READY,
        origin=archived.origin,
        comment=archived.comment,
        spec=archived.spec,
        image_digest=sandbox.image_digest,
        node=sandbox.node,
        created_at=archived.created_at,
        frozen_ms=archived.frozen_ms,
    )
    await tx.checkpoints.insert([checkpoint], [], message=f"imported, of {sandbox.name}")


async def _image(tx: Transaction, name: str, node: str, made: tuple[str, int, ImageConfig]) -> Image:
    digest, size_bytes, config = made
    for known in await tx.images.with_digest(digest):
        if known.state is ImageState.READY:
            return known
    taken = (ImageState.DELETING, ImageState.DELETED)
    if any(image.state not in taken for image in await tx.images.newest_named([name])):
        name = f"{name.rpartition(':')[0]}:{digest.removeprefix('sha256:')[:DIGEST_DIGITS]}"
    image_id = make_id("image", tx.chance(6))
    operation = tx.operations.new("image.create", image_id, tx.project)
    image = Image(
        id=image_id,
        project=tx.project,
        name=name,
        state=ImageState.READY,
        source="archive",
        digest=digest,
        size_bytes=size_bytes,
        config=config,
        node=node,
        operation=operation.id,
        created_at=tx.now,
        updated_at=tx.now,
    )
    await tx.images.insert([image], [operation], message="archive")
    await tx.operations.finish(operation.id, None)
    return image
