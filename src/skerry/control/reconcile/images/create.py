"""creating -> ready: pull, build or commit an image on its machine, telling progress as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar

from skerry.client.agent import AgentClient, ImageDone, image_done
from skerry.clock import Clock
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import TRIES_S_MAX
from skerry.errors import Conflict, Failed, SkerryError, Unavailable
from skerry.model.image import Image, ImageState
from skerry.store.store import Store

HANDS = 4
"""Unpacking is heavy on the disk; more at once would slow every sandbox on it."""
TELL_EVERY_S = 0.5
UPLOAD_SILENCE_S_MAX = 60.0
"""Whoever receives an upload touches its record every few seconds; an untouched one has lost its receiver."""
TOUCH_EVERY_S = 5.0


class CreateImages:
    moves: ClassVar = frozenset({(ImageState.CREATING, ImageState.READY), (ImageState.CREATING, ImageState.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, clock: Clock) -> None:
        self._store = store
        self._agent = agent
        self._clock = clock
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
        broke: list[Exception] = []

        async def noticed() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:  # the HTTP client would wrap it beyond recognition
                broke.append(error)
                raise

        try:
            await self._until_done_or_unwanted(image, self._agent.upload_image(image.id, noticed()))
        except BaseException as error:
            cause = broke[0] if broke else error
            if not isinstance(cause, SkerryError) or isinstance(cause, Unavailable):
                await asyncio.shield(self._fail(image, Failed("the upload was interrupted; send it again")))
                raise
            await asyncio.shield(self._fail(image, cause))
            raise cause from error

    async def _until_done_or_unwanted(self, image: Image, lines: AsyncGenerator[dict[str, Any]]) -> None:
        try:
            done = await self._follow(image, lines)
        except Unavailable:
            raise
        except SkerryError as error:
            if isinstance(error, Conflict) and self.hands.answered_for_s(image.id) < TRIES_S_MAX:
                raise  # the agent is still letting go of an earlier attempt
            await self._fail(image, error)
            return
        if done is not None:
            await self._record(image, done)

    async def _follow(self, image: Image, lines: AsyncGenerator[dict[str, Any]]) -> ImageDone | None:
        """None when the image was deleted meanwhile: leaving the stream cancels the work."""
        told_s = touched_s = self._clock.monotonic_s()
        async with aclosing(lines) as stream:
            async for line in stream:
                if line.get("type") == "done":
                    return image_done(line)
                now_s = self._clock.monotonic_s()
                if now_s - told_s < TELL_EVERY_S:
                    continue
                told_s = now_s
                touch = now_s - touched_s > TOUCH_EVERY_S
                touched_s = now_s if touch else touched_s
                if not await self._tell(image, line, touch=touch):
                    return None
        raise Unavailable("the agent of this machine went away while it made the image", retry_after_s=1)

    async def _tell(self, image: Image, line: dict[str, Any], *, touch: bool) -> bool:
        progress = {key: line.get(key) for key in ("step", "done_bytes", "total_bytes")}
        async with self._store.write() as tx:
            if image.operation is not None:
                await tx.operations.progress(image.operation, progress)
            if touch:
                return await tx.images.change(image, {}) is not None
            return (await tx.images.states_of([image.id])).get(image.id) == ImageState.CREATING.value

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
