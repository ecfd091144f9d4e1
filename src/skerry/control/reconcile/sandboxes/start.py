"""starting -> running: have its machine run it, whether that is for the first time or for the tenth."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import TRIES_S_MAX, is_refusal, order_for
from skerry.errors import SkerryError, Unavailable
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store

HANDS = 16


class StartSandboxes:
    moves: ClassVar = frozenset({(S.STARTING, S.RUNNING), (S.STARTING, S.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.in_states([S.STARTING], self.hands.window, self.hands.busy())
        for sandbox in waiting:
            self.hands.take(sandbox.id, partial(self._start, sandbox), sandbox.generation)

    async def _start(self, sandbox: Sandbox) -> None:
        try:
            report = await self._agent.start(order_for(sandbox))
        except Unavailable:
            raise
        except SkerryError as error:
            if not is_refusal(error) and self.hands.answered_for_s(sandbox.id) < TRIES_S_MAX:
                raise
            async with self._store.write() as tx:
                await tx.sandboxes.move(sandbox, S.FAILED, "failed", message=error.say, changes={"reason": error.say})
            return
        async with self._store.write() as tx:
            await tx.sandboxes.move(
                sandbox,
                S.RUNNING,
                "running",
                changes={
                    "address": report.address,
                    "started_at": tx.now,
                    "exit": None,
                    "reason": None,
                    "asleep": None,
                    "applied": True,
                },
            )
