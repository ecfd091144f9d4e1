"""deleting -> deleted: remove the volume and what is in it. Copies of it are volumes of their own, and stay."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.model.volume import Volume, VolumeState
from skerry.store.store import Store

HANDS = 8


class DeleteVolumes:
    moves: ClassVar = frozenset({(VolumeState.DELETING, VolumeState.DELETED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, creating: Hands) -> None:
        self._store = store
        self._agent = agent
        self._creating = creating
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.volumes.in_states([VolumeState.DELETING], self.hands.window, self.hands.busy())
        for volume in waiting:
            self.hands.take(volume.id, partial(self._delete, volume))

    async def _delete(self, volume: Volume) -> None:
        # Deleted while it is being made: else it could appear after its deletion.
        await self._creating.finished(volume.id)
        await self._agent.delete_volume(volume.id)
        async with self._store.write() as tx:
            await tx.volumes.move(volume, VolumeState.DELETED, "deleted")
