"""A sandbox as an OCI archive: the image's layer, one of changes for each checkpoint, one for the disk as it is now."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from skerry.agent.archives.changes import layer_of_changes
from skerry.agent.commands import running, to_the_end
from skerry.agent.images.export import Archive, archive_of
from skerry.agent.images.layout import INDEX, LAYER, MANIFEST, REFERENCE_NAME, canonical, config_document
from skerry.agent.images.store import COMMIT_PREFIX, ImageStore
from skerry.agent.images.tool_errors import from_local
from skerry.agent.images.tree_tar import tar_of_tree
from skerry.agent.images.unpack import CHECK_BYTES
from skerry.agent.images.work import Job
from skerry.agent.sandboxes import Sandboxes
from skerry.model.archive import BASE, DISK, SANDBOX_MEDIA_TYPE, ArchivedCheckpoint, ArchivedSandbox, ArchiveOrder
from skerry.model.image import ImageConfig
from skerry.runtime.contract import Runtime

ZSTD = ("zstd", "--quiet", "-1", "-o")
"""Five times as fast as gzip, and smaller. Images are exported in gzip since older tools read no other."""
CREATED = "org.opencontainers.image.created"


class Exports:
    def __init__(self, *, sandboxes: Sandboxes, runtime: Runtime, images: ImageStore) -> None:
        self._sandboxes = sandboxes
        self._runtime = runtime
        self._images = images

    @asynccontextmanager
    async def export(self, sandbox_id: str, order: ArchiveOrder) -> AsyncGenerator[Archive, None]:
        """Ready to be streamed while the context is open. The disk is that of a checkpoint taken for it, so that the
        sandbox goes on."""
        document = order.document
        trees = [self._runtime.checkpoint_path(checkpoint_id) for checkpoint_id in order.checkpoints]
        async with self._images.copying("export") as job:
            passing = COMMIT_PREFIX + job.folder.name
            try:
                await self._sandboxes.checkpoint(sandbox_id, passing)
                now = self._runtime.checkpoint_path(passing)
                base = self._runtime.image_path(document.image.digest)
                config = self._images.config_of(document.image.digest)
                archive = await _Writing(job, config, document).write(base, [*trees, now])
            finally:
                await to_the_end(self._runtime.delete_checkpoint(passing))
            yield archive


class _Writing:
    """One archive under way: the layers so far, and a manifest for each disk that they have come to."""

    def __init__(self, job: Job, config: ImageConfig, document: ArchivedSandbox) -> None:
        self._job = job
        self._config = config
        self._document = document
        self._diff_ids: list[str] = []
        self._layers: list[tuple[str, str, int]] = []
        self._index: list[dict[str, Any]] = []

    async def write(self, base: Path, trees: Sequence[Path]) -> Archive:
        layout = self._job.layout
        layout.create()
        base_manifest = await self._disk(tar_of_tree(base, self._job.environment), BASE)
        manifests: list[str] = []
        was = base
        for tree, kept in zip(trees, [*self._document.checkpoints, None], strict=True):
            manifests.append(await self._disk(layer_of_changes(was, tree, self._job), DISK, kept))
            was = tree
        document = self._document.model_copy(
            update={
                "base": base_manifest,
                "disk": manifests[-1],
                "checkpoints": [
                    kept.model_copy(update={"manifest": manifest})
                    for kept, manifest in zip(self._document.checkpoints, manifests, strict=False)
                ],
            }
        )
        raw = canonical(document.model_dump(mode="json"))
        described = layout.write_blob(raw)
        self._index.insert(0, {"mediaType": SANDBOX_MEDIA_TYPE, "digest": described, "size": len(raw)})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self._index}
        (layout.folder / "index.json").write_bytes(canonical(index))
        blobs = sorted(path.name for path in (layout.folder / "blobs" / "sha256").iterdir())
        first = described.removeprefix("sha256:")
        blobs.sort(key=lambda name: name != first)
        return archive_of(layout.folder, ["oci-layout", "index.json", *(f"blobs/sha256/{name}" for name in blobs)])

    async def _disk(
        self, tar: AsyncGenerator[bytes, None], name: str, checkpoint: ArchivedCheckpoint | None = None
    ) -> str:
        """What the layers so far and this one come to, as an image; its manifest's digest."""
        diff_id, digest, size_bytes = await _write_layer(tar, self._job)
        self._diff_ids.append(diff_id)
        self._layers.append((LAYER + "+zstd", digest, size_bytes))
        manifest = self._job.layout.write_image(config_document(self._config, self._diff_ids), self._layers)
        annotations = {REFERENCE_NAME: name}
        if checkpoint is not None:
            annotations = {
                REFERENCE_NAME: checkpoint.title,
                CREATED: checkpoint.created_at.isoformat(),
                "skerry.checkpoint": str(checkpoint.number),
                "skerry.origin": checkpoint.origin.value,
                "skerry.comment": checkpoint.comment,
            }
        size_bytes = self._job.layout.blob_path(manifest).stat().st_size
        entry = {"mediaType": MANIFEST, "digest": manifest, "size": size_bytes, "annotations": annotations}
        self._index.append(entry)
        return manifest


async def _write_layer(tar: AsyncGenerator[bytes, None], job: Job) -> tuple[str, str, int]:
    """Into the job's layout; (digest of the tar, digest of the blob, bytes of the blob)."""
    plain = hashlib.sha256()
    draft = job.folder / "layer.tar.zst"
    unchecked_bytes = 0
    async with running([*ZSTD, str(draft)], environment=job.environment, stdin=True) as program:
        async with aclosing(tar) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(plain.update, chunk)
                await program.write(chunk)
                unchecked_bytes += len(chunk)
                if unchecked_bytes > CHECK_BYTES:
                    unchecked_bytes = 0
                    await job.check()
        await program.close_stdin()
        code, stderr = await program.wait()
    if code != 0:
        raise from_local(stderr, "a layer of the archive cannot be compressed")
    with draft.open("rb") as file:
        packed = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
    digest = f"sha256:{packed.hexdigest()}"
    draft.rename(job.layout.blob_path(digest))
    return f"sha256:{plain.hexdigest()}", digest, job.layout.blob_path(digest).stat().st_size
