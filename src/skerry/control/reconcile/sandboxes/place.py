"""pending -> starting: give every waiting sandbox a machine, once its image or checkpoint is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from skerry.clock import Clock
from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.model.image import Image, ImageState
from skerry.model.node import Node, NodeState
from skerry.model.sandbox import S, Sandbox
from skerry.scheduler.place import Limits, Machine, Plan, Snapshot, Want, place
from skerry.store.store import Store

BATCH_MAX = 500


@dataclass(frozen=True)
class Source:
    """Where a waiting sandbox's disk comes from. `digest` None and `refused` None: not there yet."""

    digest: str | None = None
    machine: str | None = None
    refused: str | None = None


class PlaceSandboxes:
    moves: ClassVar = frozenset({(S.PENDING, S.STARTING), (S.PENDING, S.FAILED)})

    def __init__(self, store: Store, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits

    async def step(self) -> None:
        async with self._store.read() as tx:
            pending = await tx.sandboxes.in_states([S.PENDING], BATCH_MAX)
            if not pending:
                return
            nodes = await tx.nodes.all()
            usage = await tx.sandboxes.usage()
            checkpoints = {
                checkpoint.id: checkpoint
                for checkpoint in await tx.checkpoints.with_ids(
                    sorted({sandbox.source_checkpoint for sandbox in pending if sandbox.source_checkpoint})
                )
            }
            unknown = {sandbox.spec.image for sandbox in pending if sandbox.image_digest is None}
            images = {image.name: image for image in await tx.images.newest_named(unknown)} if unknown else {}
        sources = {sandbox.id: source_of(sandbox, images, checkpoints) for sandbox in pending}
        now = self._clock.now()
        wants = tuple(
            Want(
                id=sandbox.id,
                cpu=sandbox.spec.cpu,
                memory_bytes=sandbox.spec.memory,
                waited_s=(now - sandbox.updated_at).total_seconds(),
                machine=sources[sandbox.id].machine,
            )
            for sandbox in pending
            if sources[sandbox.id].digest is not None
        )
        machines = tuple(_machine(node, usage.get(node.id, (0.0, 0, 0))) for node in nodes)
        await self._apply(pending, sources, place(Snapshot(machines, wants, self._limits)))

    async def _apply(self, pending: list[Sandbox], sources: dict[str, Source], plan: Plan) -> None:
        refused = {key: source.refused for key, source in sources.items() if source.refused} | plan.refused
        if not refused and not plan.placed:
            return
        async with self._store.write() as tx:
            for sandbox in pending:
                if reason := refused.get(sandbox.id):
                    await tx.sandboxes.move(sandbox, S.FAILED, "failed", message=reason, changes={"reason": reason})
                elif node := plan.placed.get(sandbox.id):
                    digest = sources[sandbox.id].digest
                    await tx.sandboxes.move(
                        sandbox, S.STARTING, "placed", changes={"node": node, "image_digest": digest}
                    )


def source_of(sandbox: Sandbox, images: dict[str, Image], checkpoints: dict[str, Checkpoint]) -> Source:
    if sandbox.source_checkpoint is not None:
        checkpoint = checkpoints.get(sandbox.source_checkpoint)
        if checkpoint is None or checkpoint.state in (CheckpointState.DELETING, CheckpointState.DELETED):
            return Source(refused="the checkpoint it was to start from was deleted")
        if checkpoint.state is CheckpointState.FAILED:
            return Source(refused=f"the checkpoint it was to start from failed: {checkpoint.reason}")
        ready = checkpoint.state is CheckpointState.READY
        return Source(digest=checkpoint.image_digest, machine=checkpoint.node) if ready else Source()
    if sandbox.image_digest is not None:
        return Source(digest=sandbox.image_digest)
    image = images.get(sandbox.spec.image)
    if image is None or image.state in (ImageState.DELETING, ImageState.DELETED):
        return Source(refused=f"its image {sandbox.spec.image} was deleted")
    if image.state is ImageState.FAILED:
        return Source(refused=f"its image {sandbox.spec.image} could not be made: {image.reason}")
    return Source(digest=image.digest)


def _machine(node: Node, used: tuple[float, int, int]) -> Machine:
    return Machine(
        id=node.id,
        ready=node.state is NodeState.READY,
        cpu=node.cpu,
        memory_bytes=node.memory_bytes,
        disk_free_bytes=node.disk_free_bytes,
        cpu_used=used[0],
        memory_used_bytes=used[1],
        sandboxes=used[2],
    )
