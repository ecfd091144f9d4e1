"""deleting -> deleted: remove the image's disk, unless another name still has the same digest."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.model.image import Image, ImageState
from skerry.store.store import Store

HANDS = 4


class DeleteImages:
    moves: ClassVar = frozenset({(ImageState.DELETING, ImageState.DELETED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, creating: Hands) -> None:
        self._store = store
        self._agent = agent
        self._creating = creating
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.images.in_states([ImageState.DELETING], self.hands.window, self.hands.busy())
        for image in waiting:
            self.hands.take(image.id, partial(self._delete, image))

    async def _delete(self, image: Image) -> None:
        await self._creating.drop(image.id)  # its agent leaves nothing of an image that was cut short
        if image.digest is not None:
            async with self._store.read() as tx:
                shared = await tx.images.with_digest(image.digest)
                users = await tx.sandboxes.users_of_image(image.digest, image.name)
            if not shared and not users:
                await self._agent.delete_image(image.digest)
        async with self._store.write() as tx:
            await tx.images.move(image, ImageState.DELETED, "deleted")
