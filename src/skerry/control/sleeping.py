"""Ask a machine to put a sandbox to sleep or to wake it, and wait until the record says so too."""

from __future__ import annotations

from skerry.client.agent import AgentClient
from skerry.control.waiting import Waiter
from skerry.errors import Conflict
from skerry.model.order import Report
from skerry.model.sandbox import S, Sandbox
from skerry.model.sleep import SleepRequest
from skerry.store.store import Store

NOTICED_S_MAX = 10.0
"""The machine has done it by then; its report is on the way to the record."""


class Sleeping:
    """Not an intent that a reconciler carries out: its machine decides on sleep by itself all the time, and being asked
    is one more reason. Nothing is lost with the request: whoever asked is answered when it is so."""

    def __init__(self, store: Store, waiter: Waiter, agent: AgentClient) -> None:
        self._store = store
        self._waiter = waiter
        self._agent = agent

    async def sleep(self, sandbox: Sandbox, request: SleepRequest) -> Sandbox:
        _require(sandbox)
        return await self._noticed(sandbox, await self._agent.sleep(sandbox.id, request))

    async def wake(self, sandbox: Sandbox) -> Sandbox:
        _require(sandbox)
        return await self._noticed(sandbox, await self._agent.wake(sandbox.id))

    async def _noticed(self, sandbox: Sandbox, report: Report) -> Sandbox:
        async def read() -> Sandbox:
            async with self._store.read() as tx:
                return await tx.sandboxes.get(sandbox.id) or sandbox

        def agrees(found: Sandbox) -> bool:
            return found.asleep == report.asleep or found.state not in (S.RUNNING, S.ASLEEP)

        return await self._waiter.until([sandbox.id], read, agrees, NOTICED_S_MAX)


def _require(sandbox: Sandbox) -> None:
    if sandbox.state not in (S.RUNNING, S.ASLEEP):
        raise Conflict(f"sandbox {sandbox.name} is {sandbox.state.value}; only a running one sleeps and wakes")
