"""creating -> ready: pull, build or commit an image on its machine, telling progress as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any, ClassVar

from skerry.client.agent import AgentClient, ImageDone, image_done
from skerry.clock import Clock
from skerry.control.noticed import Noticed
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.making import Making
from skerry.control.reconcile.orders import TRIES_S_MAX
from skerry.errors import Conflict, Failed, SkerryError, Unavailable
from skerry.model.image import Image, ImageState
from skerry.store.store import Store

HANDS = 4
"""Unpacking is heavy on the disk; more at once would slow every sandbox on it."""
UPLOAD_SILENCE_S_MAX = 60.0
"""Whoever receives an upload touches its record every few seconds; an untouched one has lost its receiver."""


class CreateImages:
    moves: ClassVar = frozenset({(ImageState.CREATING, ImageState.READY), (ImageState.CREATING, ImageState.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, clock: Clock) -> None:
        self._store = store
        self._agent = agent
        self._clock = clock
        self._making = Making(store, clock)
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.images.in_states([ImageState.CREATING], self.hands.window, self.hands.busy())
        for image in waiting:
            if image.source == "upload":
                if (self._clock.now() - image.updated_at).total_seconds() > UPLOAD_SILENCE_S_MAX:
                    await self._fail(image, Failed("the upload was interrupted; send it again"))
            else:
                self.hands.take(image.id, partial(self._create, image))

    async def _create(self, image: Image) -> None:
        await self._until_done_or_unwanted(image, self._agent.create_image(image))

    async def receive(self, image: Image, chunks: AsyncIterator[bytes]) -> None:
        """An upload, by whoever has the client's connection. Nobody can repeat it, so any error is its end."""
        noticed = Noticed(chunks)
        try:
            chunks = await noticed.begun()
            await self._until_done_or_unwanted(image, self._agent.upload_image(image.id, chunks))
        except BaseException as error:
            cause = noticed.broke or error
            if not isinstance(cause, SkerryError) or isinstance(cause, Unavailable):
                await asyncio.shield(self._fail(image, Failed("the upload was interrupted; send it again")))
                raise
            await asyncio.shield(self._fail(image, cause))
            raise cause from error

    async def _until_done_or_unwanted(self, image: Image, lines: AsyncGenerator[dict[str, Any]]) -> None:
        try:
            done = await self._making.follow(image, lines)
        except Unavailable:
            raise
        except SkerryError as error:
            if isinstance(error, Conflict) and self.hands.answered_for_s(image.id) < TRIES_S_MAX:
                raise  # the agent is still letting go of an earlier attempt
            await self._fail(image, error)
            return
        if done is not None:
            await self._record(image, image_done(done))

    async def _record(self, image: Image, done: ImageDone) -> None:
        digest, size_bytes, config = done
        async with self._store.write() as tx:
            nodes = await tx.nodes.all()
            written = await tx.images.move(
                image,
                ImageState.READY,
                "ready",
                message=digest,
                changes={
                    "digest": digest,
                    "size_bytes": size_bytes,
                    "config": config,
                    "reason": None,
                    "node": nodes[0].id if nodes else None,
                },
            )
            unwanted = written is None and not await tx.images.with_digest(digest)
            used = unwanted and (await tx.sandboxes.users_by_digest()).get(digest)
        if unwanted and not used:
            await self._agent.delete_image(digest)

    async def _fail(self, image: Image, error: SkerryError) -> None:
        async with self._store.write() as tx:
            await tx.images.move(image, ImageState.FAILED, "failed", message=error.say, changes={"reason": error.say})
