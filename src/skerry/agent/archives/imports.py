"""From an archive to a sandbox's disk and checkpoints: received, made, and then kept or given up as control decides.

Until it is kept nothing of it is anybody's. Control writes it down in between; whichever program dies, control asks
later which imports are pending and settles each by what its database says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from skerry.agent.archives.pending import PendingImports
from skerry.agent.archives.read import Layer, Received, read_archive
from skerry.agent.commands import to_the_end
from skerry.agent.identity import GuestIdentity
from skerry.agent.images.catalog import ImageEntry
from skerry.agent.images.layout import config_document
from skerry.agent.images.progress import Progress
from skerry.agent.images.store import ImageStore
from skerry.agent.images.upload import Upload
from skerry.agent.images.work import Job
from skerry.agent.journal import Journal
from skerry.agent.plans import Plans
from skerry.agent.reports import Reports
from skerry.agent.sandboxes import Sandboxes
from skerry.errors import NotFound
from skerry.model.archive import ArchivedSandbox, ImportOrder, ImportPending
from skerry.model.image import ImageConfig
from skerry.model.order import Order, Presence, Report
from skerry.runtime.contract import Runtime


class Imports:
    def __init__(
        self,
        *,
        sandboxes: Sandboxes,
        runtime: Runtime,
        images: ImageStore,
        identity: GuestIdentity,
        reports: Reports,
        journal: Journal,
        plans: Plans,
        folder: Path,
    ) -> None:
        self._sandboxes = sandboxes
        self._runtime = runtime
        self._images = images
        self._identity = identity
        self._reports = reports
        self._journal = journal
        self._plans = plans
        self._pending = PendingImports(folder)
        self._received: dict[str, tuple[Upload, Received]] = {}

    def open(self) -> None:
        """After the recovery of sandboxes, for which a disk that is being made is one that nobody knows."""
        self._pending.open()
        for pending in self._pending.all():
            self._no_sandbox(pending.sandbox_id)

    async def close(self) -> None:
        for upload, _ in self._received.values():
            await upload.close()

    def pending(self) -> list[ImportPending]:
        waiting = [ImportPending(sandbox_id=sandbox_id) for sandbox_id in self._received]
        return [*self._pending.all(), *waiting]

    def checkpoints(self) -> set[str]:
        """Ids of checkpoints that are nobody's so far."""
        return {checkpoint_id for pending in self._pending.all() for checkpoint_id in pending.checkpoints}

    async def receive(self, sandbox_id: str, chunks: AsyncIterator[bytes], size_bytes: int | None) -> ArchivedSandbox:
        """All of it, verified, and held until it is made or given up."""
        upload = await self._images.receive(sandbox_id, chunks, size_bytes)
        try:
            received = await read_archive(upload.archive, upload.job)
        except BaseException:
            await upload.close()
            raise
        self._received[sandbox_id] = (upload, received)
        return received.document

    async def make(self, sandbox_id: str, order: ImportOrder, progress: Progress) -> ImageEntry:
        """The image, the checkpoints and the disk; the image that they come to stand on here. After an error it is
        pending still: control gives it up."""
        upload, received = self._received.pop(sandbox_id, (None, None))
        if upload is None or received is None:
            raise NotFound("this machine has no such archive; send it again")
        try:
            async with self._images.fetching():
                return await self._make(sandbox_id, order, received, upload.job, progress)
        finally:
            await to_the_end(upload.close())

    async def _make(
        self, sandbox_id: str, order: ImportOrder, received: Received, job: Job, progress: Progress
    ) -> ImageEntry:
        base = self._images.find(received.document.image.digest) or self._images.find(received.base)
        brought = None if base else received.base
        self._pending.put(ImportPending(sandbox_id=sandbox_id, checkpoints=order.checkpoints, image_digest=brought))
        if base is None:
            base = await self._images.enter(received.base, received.base, job, progress)
        await self._runtime.create_disk(sandbox_id, base.digest, None)
        disk = self._runtime.disk_path(sandbox_id)
        *kept, last = received.layers
        for layer, checkpoint_id in zip(kept, order.checkpoints, strict=True):
            await self._apply(layer, disk, job, progress)
            await self._runtime.checkpoint(sandbox_id, checkpoint_id)
        await self._apply(last, disk, job, progress)
        if order.renew_identity:
            await self._identity.renew(disk, order.hostname)
        return base

    async def _apply(self, layer: Layer, disk: Path, job: Job, progress: Progress) -> None:
        config = config_document(ImageConfig(), [layer.diff_id])
        manifest = job.layout.write_image(config, [(layer.kind, layer.digest, layer.size_bytes)])
        await self._images.apply(job, manifest, disk, progress)
        for used in (layer.digest, layer.diff_id):  # packed, and unpacked where that had to be in between
            job.layout.blob_path(used).unlink(missing_ok=True)

    async def keep(self, order: Order) -> None:
        """It is a sandbox from now on, which control knows and has not started. Idempotent."""
        async with self._sandboxes.lock(order.sandbox_id):
            if self._journal.get(order.sandbox_id) is None:  # else it has been started, or deleted, already
                self._journal.admit(self._plans.settle(order))
                stopped = Presence.STOPPED
                self._reports.put(Report(sandbox_id=order.sandbox_id, generation=order.generation, presence=stopped))
        self._pending.remove(order.sandbox_id)

    async def give_up(self, sandbox_id: str, *, image: bool) -> None:
        """Nothing of it is left. `image`: also that which it brought, since nobody else has come to use it. Idempotent,
        and quiet about what is no import: a sandbox is not deleted so."""
        upload, _ = self._received.pop(sandbox_id, (None, None))
        if upload is not None:
            await upload.close()
        pending = self._pending.get(sandbox_id)
        if pending is None:
            return
        await self._runtime.destroy(sandbox_id)
        for checkpoint_id in pending.checkpoints:
            await self._runtime.delete_checkpoint(checkpoint_id)
        others = {other.image_digest for other in self._pending.all() if other is not pending}
        if image and pending.image_digest is not None and pending.image_digest not in others:
            await self._images.delete(pending.image_digest)
        self._no_sandbox(sandbox_id)
        self._pending.remove(sandbox_id)

    def _no_sandbox(self, sandbox_id: str) -> None:
        report = self._reports.get(sandbox_id)
        if report is not None and report.generation == 0:
            self._reports.drop(Report(sandbox_id=sandbox_id, generation=0, presence=Presence.ABSENT))
