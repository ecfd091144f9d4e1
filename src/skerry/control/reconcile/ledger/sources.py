"""Whether what a waiting sandbox starts from is there, and which node has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.model.image import Image, ImageState
from skerry.store.ledger import SandboxRow
from skerry.store.store import Store

IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Source:
    """`digest` None and `refused` None: not there yet."""

    digest: str | None = None
    node: str | None = None
    """The one that has the disk, the checkpoint or the volumes. None: any."""
    has_disk: bool = False
    refused: str | None = None


async def sources_of(store: Store, rows: Iterable[SandboxRow]) -> dict[str, Source]:
    """The database is asked only about those that need more than an image that is there."""
    found: dict[str, Source] = {}
    asking: list[SandboxRow] = []
    for row in rows:
        if row.image_digest is not None and row.volumes is None and (row.started or row.source_checkpoint is None):
            found[row.id] = Source(row.image_digest, row.node, has_disk=row.node is not None)
        else:
            asking.append(row)
    if asking:
        found |= await _ask(store, asking)
    return found


async def _ask(store: Store, rows: list[SandboxRow]) -> dict[str, Source]:
    checkpoint_ids = sorted({row.source_checkpoint for row in rows if row.source_checkpoint})
    unknown = sorted({row.image_name for row in rows if row.image_digest is None})
    volume_ids = sorted({each for row in rows for each in _volumes(row)})
    checkpoints: dict[str, Checkpoint] = {}
    homes: dict[str, str | None] = {}
    async with store.read() as tx:
        for at in range(0, len(checkpoint_ids), IDS_AT_ONCE):
            some = await tx.checkpoints.with_ids(checkpoint_ids[at : at + IDS_AT_ONCE])
            checkpoints |= {checkpoint.id: checkpoint for checkpoint in some}
        for at in range(0, len(volume_ids), IDS_AT_ONCE):
            homes |= {volume.id: volume.node for volume in await tx.volumes.with_ids(volume_ids[at : at + IDS_AT_ONCE])}
        images = {image.name: image for image in await tx.images.newest_named(set(unknown))} if unknown else {}
    found: dict[str, Source] = {}
    for row in rows:
        source = source_of(row, images, checkpoints)
        home = next((homes.get(volume) for volume in _volumes(row)), None)
        node = row.node or source.node or home
        found[row.id] = Source(source.digest, node, has_disk=row.node is not None, refused=source.refused)
    return found


def source_of(row: SandboxRow, images: Mapping[str, Image], checkpoints: Mapping[str, Checkpoint]) -> Source:
    if row.started:
        return Source(digest=row.image_digest)
    if row.source_checkpoint is not None:
        checkpoint = checkpoints.get(row.source_checkpoint)
        if checkpoint is None or checkpoint.state in (CheckpointState.DELETING, CheckpointState.DELETED):
            return Source(refused="the checkpoint it was to start from was deleted")
        if checkpoint.state is CheckpointState.FAILED:
            return Source(refused=f"the checkpoint it was to start from failed: {checkpoint.reason}")
        ready = checkpoint.state is CheckpointState.READY
        return Source(digest=checkpoint.image_digest, node=checkpoint.node) if ready else Source()
    if row.image_digest is not None:
        return Source(digest=row.image_digest)
    image = images.get(row.image_name)
    if image is None or image.state in (ImageState.DELETING, ImageState.DELETED):
        return Source(refused=f"its image {row.image_name} was deleted")
    if image.state is ImageState.FAILED:
        return Source(refused=f"its image {row.image_name} could not be made: {image.reason}")
    return Source(digest=image.digest)


def _volumes(row: SandboxRow) -> list[str]:
    return json.loads(row.volumes) if row.volumes is not None else []
