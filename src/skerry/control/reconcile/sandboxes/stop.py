"""stopping -> stopped: have its machine end its processes. It is tried until it is so; there is no giving up."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.hands import Hands
from skerry.errors import NotFound
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox
from skerry.store.store import Store

HANDS = 512
"""Many more than of other verbs: a stop mostly waits for the guest, up to an hour of grace."""


class StopSandboxes:
    moves: ClassVar = frozenset({(S.STOPPING, S.STOPPED)})

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.in_states([S.STOPPING], self.hands.window, self.hands.busy())
        for sandbox in waiting:
            self.hands.take(sandbox.id, partial(self._stop, sandbox), sandbox.generation)

    async def _stop(self, sandbox: Sandbox) -> None:
        try:
            report = await self._agent.stop(sandbox.id, sandbox.generation, sandbox.stop_grace_s)
            exit = report.exit
        except NotFound:
            exit = None  # the order to start never reached the machine
        async with self._store.write() as tx:
            await tx.sandboxes.move(
                sandbox,
                S.STOPPED,
                "stopped",
                changes={
                    "exit": exit or Exit(reason=ExitReason.STOPPED, at=tx.now),
                    "asleep": None,
                    "services": (),
                    "health": None,
                    "applied": True,
                },
            )
