"""All images of this machine: however one comes here, it is unpacked once, entered in the catalog, and left alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from skerry.agent.commands import to_the_end
from skerry.agent.images.archive import to_layout
from skerry.agent.images.catalog import ImageCatalog, ImageEntry, check_digest
from skerry.agent.images.commit import copy_tree, digest_of_tree
from skerry.agent.images.export import Archive, build_archive
from skerry.agent.images.progress import Progress, SharedWork, Step
from skerry.agent.images.pull import Registry, Resolved
from skerry.agent.images.recipe import RecipeBuilder
from skerry.agent.images.reference import parse
from skerry.agent.images.unpack import Unpacker, check_config
from skerry.agent.images.upload import Upload, spool, too_large
from skerry.agent.images.work import Job, WorkFolder, no_room_when_full
from skerry.clock import Clock, SystemClock
from skerry.errors import Invalid, LimitReached, NotFound
from skerry.model.image import ImageConfig, image_name
from skerry.runtime.contract import Runtime

GIB = 1024**3
COMMIT_PREFIX = "commit-"
"""Checkpoints named so belong to a commit or an export that is going on; others must not list them."""


@dataclass(frozen=True)
class ImageLimits:
    fetches_at_once: int = 2
    """Pulls, recipes and archives: each can keep a disk and a core busy."""
    copies_at_once: int = 2
    """Commits and exports, apart from those so that a slow registry does not hold them up."""
    uploads_at_once: int = 8
    """Being received; they wait for their senders more than for us."""
    waiting_max: int = 64
    """Of each kind; beyond, the caller is refused rather than queued."""
    work_bytes_max: int = 2 * 64 * GIB
    """Of one image while it is made ready: an upload of the largest size and its layout."""
    upload_bytes_max: int = 64 * GIB
    pool_reserve_bytes: int = GIB // 4


class Turns:
    """So many at a time, so many waiting, no more."""

    def __init__(self, what: str, at_once: int, waiting_max: int) -> None:
        self._what = what
        self._seats = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._waiting_max = waiting_max

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        if self._waiting >= self._waiting_max:
            raise LimitReached(f"{self._waiting_max} {self._what} are waiting already; try again later")
        self._waiting += 1
        try:
            await self._seats.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._seats.release()


class ImageStore:
    def __init__(
        self,
        *,
        runtime: Runtime,
        data_dir: Path,
        work_dir: Path | None = None,
        mirror: str | None = None,
        environment: Mapping[str, str] | None = None,
        limits: ImageLimits | None = None,
        clock: Clock | None = None,
        recipes: RecipeBuilder | None = None,
        digest_of_sandbox: Callable[[str], str | None] = lambda _: None,
        take_checkpoint: Callable[[str, str], Awaitable[Any]] | None = None,
    ) -> None:
        """`digest_of_sandbox`: the image a sandbox began from, whose config a commit inherits. `take_checkpoint`
        (sandbox, checkpoint): under the sandbox's own lock; None: the runtime's, for callers that have no such lock."""
        self.limits = limits or ImageLimits()
        clock = clock or SystemClock()
        environment = os.environ if environment is None else environment
        self._runtime = runtime
        self._catalog = ImageCatalog(data_dir / "images")
        self._work = WorkFolder(work_dir or data_dir / "incoming", environment, self.limits.work_bytes_max)
        self._registry = Registry(clock)
        self._recipes = recipes or RecipeBuilder(clock, mirror)
        self._unpacker = Unpacker(runtime.room, self.limits.pool_reserve_bytes)
        self._digest_of_sandbox = digest_of_sandbox
        self._take_checkpoint = take_checkpoint or runtime.checkpoint
        self._fetches = Turns("images", self.limits.fetches_at_once, self.limits.waiting_max)
        self._uploads = Turns("uploads", self.limits.uploads_at_once, self.limits.waiting_max)
        self._copies = Turns("commits and exports", self.limits.copies_at_once, self.limits.waiting_max)
        self._shared: SharedWork[ImageEntry] = SharedWork()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """After the runtime's own open. Clears away whatever an earlier agent left half done."""
        await self._work.open()
        for unknown in self._catalog.open(await self._runtime.images()):
            await self._runtime.delete_image(unknown)
        for checkpoint_id in await self._runtime.checkpoints():
            if checkpoint_id.startswith(COMMIT_PREFIX):
                await self._runtime.delete_checkpoint(checkpoint_id)

    async def close(self) -> None:
        """Work still going on is cancelled and cleaned up."""
        await self._shared.close()

    def images(self) -> list[ImageEntry]:
        return self._catalog.entries()

    def find(self, digest: str) -> ImageEntry | None:
        return self._catalog.find(digest)

    @asynccontextmanager
    async def fetching(self) -> AsyncGenerator[None, None]:
        """A turn at filling a disk."""
        with no_room_when_full():
            async with self._fetches.turn():
                yield

    async def apply(self, job: Job, in_layout: str, tree: Path, progress: Progress) -> None:
        """The layers of a layout's image on top of the disk at `tree`."""
        await self._unpacker.unpack(job, in_layout, tree, progress)

    def config_of(self, digest: str) -> ImageConfig:
        """What the image says of itself; raises NotFound."""
        return self._catalog.get(digest).config

    async def pull(self, image_id: str, source: str, insecure: bool, progress: Progress) -> ImageEntry:
        """From a registry. Those who want the same image at one time share one download."""
        reference = parse(source, insecure=insecure)
        progress(Step.RESOLVE, None, None)
        async with self._work.job(image_id) as job:
            resolved = await self._registry.resolve(reference, insecure, job)
        known = self._catalog.find(resolved.digest)
        if known is not None:
            return known
        return await self._shared.join(resolved.digest, lambda tell: self._pull(image_id, resolved, tell), progress)

    async def build(self, image_id: str, recipe: str, include: list[str], progress: Progress) -> ImageEntry:
        """From Debian packages."""
        wanted = sorted(set(include))
        key = " ".join(["recipe", recipe, *wanted])
        return await self._shared.join(key, lambda tell: self._build(image_id, recipe, wanted, tell), progress)

    async def receive(self, image_id: str, chunks: AsyncIterator[bytes], size_bytes: int | None) -> Upload:
        """Spool an archive; raises TooLarge as soon as it is known to be."""
        if size_bytes is not None and size_bytes > self.limits.upload_bytes_max:
            raise too_large(self.limits.upload_bytes_max)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._uploads.turn())
            job = await stack.enter_async_context(self._work.job(image_id))
            job.expect(size_bytes or 0)
            archive = await spool(chunks, job, self.limits.upload_bytes_max)
            return Upload(job, archive, stack.pop_all())
        raise AssertionError("unreachable")

    async def load(self, upload: Upload, progress: Progress) -> ImageEntry:
        """The image of an archive that was received."""
        async with self.fetching():
            return await self._load(upload, progress)

    async def commit(self, image_id: str, sandbox_id: str, comment: str, progress: Progress) -> ImageEntry:
        """The disk of a sandbox as it is now."""
        origin = self._digest_of_sandbox(sandbox_id)
        known = self._catalog.find(origin) if origin else None
        config = known.config if known else ImageConfig()
        checkpoint_id = COMMIT_PREFIX + image_id
        async with self.copying(image_id) as job:
            progress(Step.RESOLVE, None, None)
            await self._runtime.delete_checkpoint(checkpoint_id)  # of an earlier try: it would be kept as it was
            try:
                await self._take_checkpoint(sandbox_id, checkpoint_id)
                tree = self._runtime.checkpoint_path(checkpoint_id)
                digest = await digest_of_tree(tree, config, job.environment, progress)
                progress(Step.IMPORT, None, None)

                async def copy(target: Path) -> None:
                    await copy_tree(tree, target, job.environment)

                return await self._into_pool(digest, config, copy, comment)
            finally:
                await to_the_end(self._delete_checkpoint(checkpoint_id))

    @asynccontextmanager
    async def export(self, digest: str, name: str) -> AsyncGenerator[Archive, None]:
        """An OCI archive of the image, ready to be streamed while the context is open."""
        entry = self._catalog.get(check_digest(digest))
        try:
            name = image_name(name)
        except ValueError as error:
            raise Invalid(str(error), field="name") from None
        async with self.copying("export") as job:
            yield await build_archive(self._runtime.image_path(digest), entry.config, name, job)

    @asynccontextmanager
    async def copying(self, name: str) -> AsyncGenerator[Job, None]:
        """A turn at reading whole disks, and a folder for what comes of it."""
        async with self._copies.turn(), self._work.job(name) as job:
            yield job

    async def delete(self, digest: str) -> None:
        """Idempotent. Whether anyone uses it is control's to know."""
        async with self._lock(check_digest(digest)):
            self._catalog.remove(digest)
            with suppress(NotFound):
                await self._runtime.delete_image(digest)

    async def _pull(self, image_id: str, resolved: Resolved, progress: Progress) -> ImageEntry:
        async with self._fetches.turn(), self._work.job(image_id) as job:
            in_layout = await self._registry.fetch(resolved, job, progress)
            return await self.enter(resolved.digest, in_layout, job, progress)

    async def _build(self, image_id: str, recipe: str, include: list[str], progress: Progress) -> ImageEntry:
        async with self._fetches.turn(), self._work.job(image_id) as job:
            digest = await self._recipes.build(recipe, include, job, progress)
            return await self.enter(digest, digest, job, progress)

    async def _load(self, upload: Upload, progress: Progress) -> ImageEntry:
        digest = await to_layout(upload.archive, upload.job, progress)
        return await self.enter(digest, digest, upload.job, progress)

    async def enter(self, digest: str, in_layout: str, job: Job, progress: Progress) -> ImageEntry:
        """The image of a layout, if it is not there yet. `in_layout`: its manifest there."""
        config = check_config(job.layout, in_layout).image_config()

        async def unpack(target: Path) -> None:
            await self._unpacker.unpack(job, in_layout, target, progress)
            progress(Step.IMPORT, None, None)

        return await self._into_pool(digest, config, unpack)

    async def _into_pool(
        self, digest: str, config: ImageConfig, fill: Callable[[Path], Awaitable[None]], comment: str = ""
    ) -> ImageEntry:
        """Into the pool, then into the catalog; the same digest one after the other."""
        async with self._lock(digest):
            known = self._catalog.find(digest)
            if known is not None:
                return known
            size_bytes = await self._runtime.import_image(digest, fill)
            entry = ImageEntry(digest=digest, size_bytes=size_bytes, config=config, comment=comment)
            self._catalog.put(entry)
            return entry

    async def _delete_checkpoint(self, checkpoint_id: str) -> None:
        await self._runtime.delete_checkpoint(checkpoint_id)

    def _lock(self, digest: str) -> asyncio.Lock:
        return self._locks.setdefault(digest, asyncio.Lock())
