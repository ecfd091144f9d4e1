"""creating -> ready: freeze, snapshot, thaw, on the sandbox's machine."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import tries_again
from skerry.errors import SkerryError
from skerry.model.checkpoint import Checkpoint, CheckpointState
from skerry.store.store import Store

HANDS = 16


class CreateCheckpoints:
    moves: ClassVar = frozenset(
        {(CheckpointState.CREATING, CheckpointState.READY), (CheckpointState.CREATING, CheckpointState.FAILED)}
    )

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.checkpoints.in_states([CheckpointState.CREATING], self.hands.window, self.hands.busy())
        for checkpoint in waiting:
            self.hands.take(checkpoint.id, partial(self._create, checkpoint))

    async def _create(self, checkpoint: Checkpoint) -> None:
        try:
            frozen_ms = await self._agent.checkpoint(checkpoint.sandbox, checkpoint.id, checkpoint.request_id)
        except SkerryError as error:
            if tries_again(error, self.hands, checkpoint.id):
                raise
            async with self._store.write() as tx:
                await tx.checkpoints.move(
                    checkpoint, CheckpointState.FAILED, "failed", message=error.say, changes={"reason": error.say}
                )
            return
        async with self._store.write() as tx:
            await tx.checkpoints.move(
                checkpoint, CheckpointState.READY, "ready", changes={"frozen_ms": frozen_ms, "reason": None}
            )
