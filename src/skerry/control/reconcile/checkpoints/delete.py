"""deleting -> deleted: remove the snapshot. What was forked from it or restored to it has a disk of its own."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.store.store import Store

HANDS = 16


class DeleteCheckpoints:
    moves: ClassVar = frozenset({(CheckpointState.DELETING, CheckpointState.DELETED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, creating: Hands) -> None:
        self._store = store
        self._agent = agent
        self._creating = creating
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.checkpoints.in_states([CheckpointState.DELETING], self.hands.window, self.hands.busy())
        for checkpoint in waiting:
            self.hands.take(checkpoint.id, partial(self._delete, checkpoint))

    async def _delete(self, checkpoint: Checkpoint) -> None:
        # Deleted while it is being made: else the snapshot could appear after its deletion.
        await self._creating.finished(checkpoint.id)
        await self._agent.delete_checkpoint(checkpoint.id)
        async with self._store.write() as tx:
            await tx.checkpoints.move(checkpoint, CheckpointState.DELETED, "deleted")
