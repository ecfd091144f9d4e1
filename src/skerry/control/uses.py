"""What a sandbox uses, asked of its machine before a transaction that would give it less."""

from __future__ import annotations

from skerry.client.agent import AgentClient
from skerry.errors import NotFound
from skerry.model.sandbox import SandboxUpdate
from skerry.model.stats import Stats
from skerry.store.store import Store
from skerry.store.transaction import PROJECT


class Uses:
    def __init__(self, store: Store, agent: AgentClient) -> None:
        self._store = store
        self._agent = agent

    async def before(self, ref: str, wanted: SandboxUpdate) -> Stats | None:
        """None where nothing shrinks, or where it has no disk yet. Raises Unavailable: whether it fits is not known."""
        async with self._store.read() as tx:
            sandbox = await tx.sandboxes.find(ref, PROJECT)
        spec = sandbox.spec
        shrinks = (wanted.memory or spec.memory) < spec.memory or (wanted.disk or spec.disk) < spec.disk
        if not shrinks or sandbox.node is None:
            return None
        try:
            return await self._agent.stats(sandbox.id)
        except NotFound:
            return None
