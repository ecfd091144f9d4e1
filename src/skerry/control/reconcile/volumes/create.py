"""creating -> ready: an empty folder with a limit, or a copy of another volume, on its machine."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import tries_again
from skerry.errors import SkerryError
from skerry.model.volume import Volume, VolumeState
from skerry.store.store import Store

HANDS = 8


class CreateVolumes:
    moves: ClassVar = frozenset({(VolumeState.CREATING, VolumeState.READY), (VolumeState.CREATING, VolumeState.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.volumes.in_states([VolumeState.CREATING], self.hands.window, self.hands.busy())
        for volume in waiting:
            self.hands.take(volume.id, partial(self._create, volume))

    async def _create(self, volume: Volume) -> None:
        try:
            await self._agent.create_volume(volume)
        except SkerryError as error:
            if tries_again(error, self.hands, volume.id):
                raise
            async with self._store.write() as tx:
                await tx.volumes.move(
                    volume, VolumeState.FAILED, "failed", message=error.say, changes={"reason": error.say}
                )
            return
        async with self._store.write() as tx:
            nodes = await tx.nodes.all()
            await tx.volumes.move(volume, VolumeState.READY, "ready", changes={"node": nodes[0].id if nodes else None})
