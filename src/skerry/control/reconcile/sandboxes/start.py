"""starting -> running: have its machine run it, whether that is for the first time or for the tenth, and not before its
time when its main process has just ended."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.clock import Clock
from skerry.control.reconcile.hands import Hands
from skerry.control.reconcile.orders import order_for, tries_again
from skerry.errors import SkerryError
from skerry.model.restart import BACKOFF_S_MAX
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store

HANDS = 16


class StartSandboxes:
    moves: ClassVar = frozenset({(S.STARTING, S.RUNNING), (S.STARTING, S.FAILED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands, clock: Clock) -> None:
        self._store = store
        self._agent = agent
        self._clock = clock
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.in_states([S.STARTING], self.hands.window, self.hands.busy())
        for sandbox in waiting:
            early_s = (sandbox.starts_at - self._clock.now()).total_seconds() if sandbox.starts_at is not None else 0.0
            if early_s > 0:
                # No more than its longest: the time of day may have been set back since.
                self.hands.rest(sandbox.id, min(early_s, BACKOFF_S_MAX), sandbox.generation)
            else:
                self.hands.take(sandbox.id, partial(self._start, sandbox), sandbox.generation)

    async def _start(self, sandbox: Sandbox) -> None:
        try:
            report = await self._agent.start(await order_for(sandbox, self._store))
        except SkerryError as error:
            if tries_again(error, self.hands, sandbox.id):
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
                    "starts_at": None,
                    "asleep": None,
                    "applied": True,
                },
            )
