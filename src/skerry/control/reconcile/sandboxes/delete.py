"""deleting -> deleted: have its machine remove everything of it. It is tried until it is so."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import log_kept_as
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store

HANDS = 16


class DeleteSandboxes:
    moves: ClassVar = frozenset({(S.DELETING, S.DELETED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.in_states([S.DELETING], self.hands.window, self.hands.busy())
        for sandbox in waiting:
            self.hands.take(sandbox.id, partial(self._delete, sandbox), sandbox.generation)

    async def _delete(self, sandbox: Sandbox) -> None:
        if sandbox.node is not None:
            await self._agent.delete(sandbox.id, sandbox.generation, log_kept_as(sandbox))
        async with self._store.write() as tx:
            await tx.sandboxes.move(sandbox, S.DELETED, "deleted", changes={"address": None, "applied": True})
