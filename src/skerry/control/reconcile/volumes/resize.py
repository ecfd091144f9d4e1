"""resizing -> ready: another limit, while it is used. A refused one leaves the size as it was, and says why."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import tries_again
from skerry.errors import SkerryError
from skerry.model.volume import Volume, VolumeState
from skerry.store.store import Store

HANDS = 8


class ResizeVolumes:
    moves: ClassVar = frozenset({(VolumeState.RESIZING, VolumeState.READY)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.volumes.in_states([VolumeState.RESIZING], self.hands.window, self.hands.busy())
        for volume in waiting:
            self.hands.take(volume.id, partial(self._resize, volume))

    async def _resize(self, volume: Volume) -> None:
        assert volume.resize_bytes is not None, "the API sets it with the state"
        try:
            await self._agent.resize_volume(volume.id, volume.resize_bytes)
        except SkerryError as error:
            if tries_again(error, self.hands, volume.id):
                raise
            await self._settle(volume, "resize refused", error.say, {"reason": error.say})
            return
        await self._settle(volume, "resized", "", {"size_bytes": volume.resize_bytes, "reason": None})

    async def _settle(self, volume: Volume, event: str, message: str, changes: dict[str, Any]) -> None:
        async with self._store.write() as tx:
            await tx.volumes.move(
                volume, VolumeState.READY, event, message=message, changes={**changes, "resize_bytes": None}
            )
