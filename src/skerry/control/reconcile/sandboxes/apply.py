"""Tell a machine what has changed in the spec of a sandbox that goes on running."""

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


class ApplyChanges:
    moves: ClassVar[frozenset[tuple[S, S]]] = frozenset()
    """It goes on as it is, running or asleep."""

    def __init__(self, store: Store, agent: AgentClient, hands: Hands) -> None:
        self._store = store
        self._agent = agent
        self.hands = hands

    async def step(self) -> None:
        async with self._store.read() as tx:
            waiting = await tx.sandboxes.unapplied(self.hands.window, self.hands.busy())
        for sandbox in waiting:
            self.hands.take(sandbox.id, partial(self._apply, sandbox), sandbox.generation)

    async def _apply(self, sandbox: Sandbox) -> None:
        refusal: SkerryError | None = None
        # In any other state its next order tells everything, and this one could start what is being stopped.
        if sandbox.state in (S.RUNNING, S.ASLEEP):
            try:
                await self._agent.change(await order_for(sandbox, self._store))
            except SkerryError as error:
                if tries_again(error, self.hands, sandbox.id):
                    raise
                refusal = error
        async with self._store.write() as tx:
            written = await tx.sandboxes.change(sandbox, {"applied": True})
            if written is not None and refusal is not None:
                # It runs on by the rules it had; its next start will meet the same refusal, and say so in its state.
                await tx.events.add([("sandbox", sandbox.id, written.name, "refused", refusal.say)])
        if written is None:  # changed once more while this was under way, when no step could take it in hand
            self.hands.look_again()
