"""deleting -> deleted: remove the model's files, but for those that other models have too."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.model.weights import Model, ModelState
from skerry.store.store import Store

HANDS = 4


class DeleteModels:
    moves: ClassVar = frozenset({(ModelState.DELETING, ModelState.DELETED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, creating: Hands) -> None:
        self._store = store
        self._agent = agent
        self._creating = creating
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.models.in_states([ModelState.DELETING], self.hands.window, self.hands.busy())
        for model in waiting:
            self.hands.take(model.id, partial(self._delete, model))

    async def _delete(self, model: Model) -> None:
        await self._creating.drop(model.id)
        await self._agent.delete_model(model.id)
        async with self._store.write() as tx:
            await tx.models.move(model, ModelState.DELETED, "deleted")
