"""Records for the tests, put into a store the way the intents do."""

from __future__ import annotations

import os
from typing import Any

from skerry.model.checkpoint import Checkpoint, CheckpointState, Origin
from skerry.model.identity import make_id
from skerry.model.image import Image, ImageState
from skerry.model.sandbox import S, Sandbox, SandboxSpec
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

DIGEST = "sha256:" + "a" * 64


async def add_sandbox(store: Store, name: str, state: S = S.PENDING, **fields: Any) -> Sandbox:
    spec = SandboxSpec(image="debian:12", name=name, **fields.pop("spec", {}))
    async with store.write() as tx:
        sandbox_id = fields.pop("id", None) or make_id("sandbox", os.urandom(6))
        operation = tx.operations.new("sandbox.create", sandbox_id, PROJECT)
        sandbox = Sandbox(
            id=sandbox_id,
            project=PROJECT,
            name=name,
            state=state,
            spec=spec,
            generation=1,
            operation=operation.id,
            created_at=tx.now,
            updated_at=tx.now,
            **fields,
        )
        await tx.sandboxes.insert([sandbox], [operation])
    return sandbox


async def add_checkpoint(store: Store, sandbox: Sandbox, **fields: Any) -> Checkpoint:
    async with store.write() as tx:
        checkpoint = Checkpoint(
            id=make_id("checkpoint", os.urandom(6)),
            project=PROJECT,
            sandbox=sandbox.id,
            number=await tx.sandboxes.next_checkpoint_number(sandbox.id),
            state=fields.pop("state", CheckpointState.READY),
            origin=fields.pop("origin", Origin.USER),
            comment="",
            spec=sandbox.spec,
            image_digest=DIGEST,
            node="node-1",
            created_at=fields.pop("created_at", tx.now),
            **fields,
        )
        await tx.checkpoints.insert([checkpoint], [])
    return checkpoint


async def add_image(store: Store, name: str, state: ImageState = ImageState.READY, **fields: Any) -> Image:
    async with store.write() as tx:
        image = Image(
            id=make_id("image", os.urandom(6)),
            project=PROJECT,
            name=name,
            state=state,
            source="docker://x",
            created_at=tx.now,
            updated_at=tx.now,
            **({"digest": DIGEST} | fields),
        )
        await tx.images.insert([image], [])
    return image
