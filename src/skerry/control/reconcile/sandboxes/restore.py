"""restoring -> running: put its disk back to a checkpoint and start it again, with the same id and address."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import order_for, tries_again
from skerry.errors import SkerryError
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store

HANDS = 16


class RestoreSandboxes:
    moves: ClassVar = frozenset({(S.RESTORING, S.RUNNING), (S.RESTORING, S.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.in_states([S.RESTORING], self.hands.window, self.hands.busy())
        for sandbox in waiting:
            self.hands.take(sandbox.id, partial(self._restore, sandbox), sandbox.generation)

    async def _restore(self, sandbox: Sandbox) -> None:
        checkpoint_id = sandbox.restore_checkpoint
        assert checkpoint_id is not None, "the API sets it with the state"
        try:
            report = await self._agent.restore(await order_for(sandbox, self._store), checkpoint_id)
        except SkerryError as error:
            if tries_again(error, self.hands, sandbox.id):
                raise
            async with self._store.write() as tx:
                await tx.sandboxes.move(
                    sandbox, S.FAILED, "failed", message=error.say, changes={"reason": f"restore: {error.say}"}
                )
            return
        async with self._store.write() as tx:
            await tx.sandboxes.move(
                sandbox,
                S.RUNNING,
                "restored",
                message=checkpoint_id,
                changes={
                    "address": report.address,
                    "started_at": tx.now,
                    "exit": None,
                    "reason": None,
                    "restore_checkpoint": None,
                    "asleep": None,
                    "services": (),
                    "health": None,
                    "applied": True,
                },
            )
