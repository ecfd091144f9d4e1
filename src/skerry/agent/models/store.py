"""All models of this machine: however one comes here, its files are fetched or made once, entered, and left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import aiohttp

from skerry.agent.images.progress import Progress, Step, ended
from skerry.agent.images.store import Turns
from skerry.agent.images.work import no_room_when_full
from skerry.agent.models.cache import ModelCache, check_id
from skerry.agent.models.cards import card_of
from skerry.agent.models.convert.run import Converter
from skerry.agent.models.fetch import Fetcher, FetchLimits, key_of
from skerry.agent.models.sources.contract import Listing, Source, checked
from skerry.agent.models.sources.folder import Folder
from skerry.agent.models.sources.hf import HuggingFace
from skerry.agent.models.sources.https import Https
from skerry.agent.models.sources.oci import Oci
from skerry.agent.models.sources.ollama import Ollama
from skerry.agent.models.sources.s3 import S3
from skerry.agent.models.unpack import is_archive, unpack
from skerry.client.shares import Shares
from skerry.clock import Clock
from skerry.errors import Invalid, NotFound, Unavailable
from skerry.model.weights import MadeModel, ModelCard, ModelFile, ModelOrder, SourceKind, digest_of, kind_of
from skerry.sealing import Sealer

TIB = 1024**4


@dataclass(frozen=True)
class ModelLimits:
    size_bytes_max: int = 2 * TIB
    pulls_at_once: int = 4
    waiting_max: int = 64
    files_at_once: int = 4
    """Of one pull."""
    fetch: FetchLimits = field(default_factory=FetchLimits)


class ModelStore:
    def __init__(
        self,
        *,
        cache: ModelCache,
        sealer: Sealer,
        shares: Shares,
        volume_path: Callable[[str], Path],
        endpoints: Mapping[str, str],
        converter: Converter,
        clock: Clock,
        limits: ModelLimits | None = None,
    ) -> None:
        self.limits = limits or ModelLimits()
        self._cache = cache
        self._sealer = sealer
        self._shares = shares
        self._volume_path = volume_path
        self._endpoints = endpoints
        self._converter = converter
        self._clock = clock
        self._fetcher = Fetcher(cache, self.limits.fetch)
        self._turns = Turns("models", self.limits.pulls_at_once, self.limits.waiting_max)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def open(self) -> None:
        self._cache.open(self._clock.now().timestamp())

    async def close(self) -> None:
        """What is on its way stays as it is, to be gone on with."""
        await self._fetcher.close()

    def models(self) -> list[str]:
        return self._cache.models()

    def get(self, model_id: str) -> MadeModel:
        found = self._cache.find(model_id)
        if found is None:
            raise NotFound(f"this machine has no model {model_id}")
        return found

    def path(self, model_id: str) -> Path:
        return self._cache.path(model_id)

    async def have(self, model_id: str, order: ModelOrder, tell: Progress) -> MadeModel:
        """Idempotent, and goes on where an earlier one was cut off."""
        async with self._lock(check_id(model_id)):
            known = self._cache.find(model_id)
            if known is not None:
                return known
            with no_room_when_full():
                async with self._turns.turn():
                    with self._cache.holding() as held:
                        made = await self._made(order, held, tell)
                        await asyncio.to_thread(self._cache.put, model_id, made)
            return made

    async def delete(self, model_id: str) -> None:
        """Idempotent. Whether anyone uses it is control's to know."""
        async with self._lock(check_id(model_id)):
            await asyncio.to_thread(self._cache.remove, model_id)

    async def _made(self, order: ModelOrder, held: set[str], tell: Progress) -> MadeModel:
        if kind_of(order.source) is not SourceKind.MODEL:
            made = await self._pulled(order, held, tell)
        else:
            made = self.get(order.base or "")
            held |= {file.sha256 for file in made.files}
        if order.convert is None:
            return made
        file = await self._converter.convert(self._cache, made.files, order.convert, held, tell)
        card = card_of(self._cache, [file], made.card.model_dump(exclude_unset=True, include={"license"}))
        return _whole([file], made.revision, card)

    async def _pulled(self, order: ModelOrder, held: set[str], tell: Progress) -> MadeModel:
        tell(Step.RESOLVE, None, None)
        async with self._source(order) as source:
            listing = await self._listed(source)
            files = await self._fetch_all(source, listing, held, tell)
        if isinstance(source, Https) and is_archive(files[0]):
            files = await unpack(self._cache, files[0], self.limits.size_bytes_max, held, tell)
        return _whole(files, listing.revision, card_of(self._cache, files, listing.card))

    async def _listed(self, source: Source) -> Listing:
        limits = self.limits.fetch
        for count in range(limits.tries):
            try:
                found = await source.list()
                return Listing(checked(found.files, self.limits.size_bytes_max), found.revision, found.card)
            except Unavailable:
                if count == limits.tries - 1:
                    raise
                await asyncio.sleep(limits.pause_s * 2**count)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise Invalid(
                    f"{source.name} lists files in a way that is not understood", because=repr(error)
                ) from None
        raise AssertionError("unreachable")

    async def _fetch_all(self, source: Source, listing: Listing, held: set[str], tell: Progress) -> list[ModelFile]:
        tally = _Tally(sum(file.size_bytes for file in listing.files), tell)
        held |= {name for file in listing.files for name in (key_of(file), file.check.digest if file.check else "")}
        seats = asyncio.Semaphore(self.limits.files_at_once)

        async def one(number: int) -> ModelFile:
            async with seats:
                file = listing.files[number]
                found = await self._fetcher.fetch(source, file, tally.of(number))
                held.add(found.sha256)
                tally.of(number)(Step.DOWNLOAD, file.size_bytes, file.size_bytes)
                return found

        tasks = [asyncio.create_task(one(number)) for number in range(len(listing.files))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                await ended(task)

    @asynccontextmanager
    async def _source(self, order: ModelOrder) -> AsyncGenerator[Source]:
        kind = kind_of(order.source)
        if kind in (SourceKind.FOLDER, SourceKind.VOLUME):
            yield self._folder(kind, order)
            return
        secret: str | None = None
        if order.secret is not None:
            secret = self._sealer.open(order.secret.sealed, order.secret.bound_to).decode(errors="replace")
        endpoint = order.endpoint or self._endpoints.get(kind.value)
        connector = aiohttp.TCPConnector(limit=2 * self.limits.fetch.connections)
        async with aiohttp.ClientSession(
            connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()
        ) as web:
            match kind:
                case SourceKind.HF:
                    yield HuggingFace(web, order.source, endpoint, secret)
                case SourceKind.S3:
                    yield S3(web, self._clock, order.source, endpoint, secret)
                case SourceKind.OCI:
                    yield Oci(web, order.source, endpoint, secret)
                case SourceKind.HTTPS:
                    yield Https(web, order.source, secret)
                case _:
                    yield Ollama(web, order.source, endpoint, secret)

    def _folder(self, kind: SourceKind, order: ModelOrder) -> Folder:
        if kind is SourceKind.VOLUME:
            return Folder(self._volume_path(order.base or ""), order.source.partition(":")[2], order.source)
        real = Path(order.source).resolve()
        for shared in self._shares.folders():
            if real.is_relative_to(shared):
                return Folder(shared, str(real.relative_to(shared)).removeprefix("."), order.source)
        raise Invalid(f"source: {order.source} is not below a folder that this machine shares", field="source")

    def _lock(self, model_id: str) -> asyncio.Lock:
        return self._locks.setdefault(model_id, asyncio.Lock())


class _Tally:
    """How far all files of a pull are, from how far each is."""

    def __init__(self, total_bytes: int, tell: Progress) -> None:
        self._total_bytes = total_bytes
        self._tell = tell
        self._done: dict[int, int] = {}

    def of(self, number: int) -> Progress:
        def tell(step: Step, done_bytes: int | None, _: int | None) -> None:
            self._done[number] = done_bytes or 0
            self._tell(step, sum(self._done.values()), self._total_bytes)

        return tell


def _whole(files: list[ModelFile], revision: str | None, card: ModelCard) -> MadeModel:
    return MadeModel(
        digest=digest_of(files),
        size_bytes=sum(file.size_bytes for file in files),
        revision=revision,
        files=files,
        card=card,
    )
