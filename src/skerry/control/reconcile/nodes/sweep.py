"""Have a machine remove what the database knows to be deleted and the machine still has.

Only what has a DELETED record is ever ordered away. Something the database has no record of at all may be worth more
than the database: it was restored from a backup, or is new and empty, or the machine served another one. That is told
as an event and left alone; `DELETE` on the agent's own socket is there for the operator who knows better.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.control.reconcile.orders import log_kept_as
from skerry.errors import Conflict
from skerry.model.checkpoint import CheckpointState
from skerry.model.sandbox import S
from skerry.model.volume import VolumeState
from skerry.model.weights import ModelState
from skerry.store.store import Store
from skerry.telemetry import Log

TOLD_MAX = 10_000


class SweepNode:
    moves: ClassVar[frozenset[tuple[S, S]]] = frozenset()
    """What it removes has made its last move already."""

    def __init__(self, store: Store, agent: AgentClient, book: ReportBook, log: Log) -> None:
        self._store = store
        self._agent = agent
        self._book = book
        self._log = log
        self._told: set[str] = set()

    async def step(self) -> None:
        if not self._book.heard:
            return
        await self._sandboxes()
        await self._checkpoints()
        await self._volumes()
        await self._models()

    async def _sandboxes(self) -> None:
        # The machine first: what appears there later than this is not judged by an older look at the database.
        present = {report.sandbox_id for report in await self._agent.reports()}
        async with self._store.read() as tx:
            states = await tx.sandboxes.states_of(sorted(present))
            dead = [sandbox_id for sandbox_id in present if states.get(sandbox_id) in (None, S.DELETED.value)]
            known = {sandbox.id: sandbox for sandbox in await tx.sandboxes.with_ids(dead)}
        for sandbox_id in dead:
            sandbox = known.get(sandbox_id)
            if sandbox is None:
                await self._tell_unknown("sandbox", sandbox_id)
            else:
                self._log.warning("removing a deleted sandbox that is still there", target=sandbox_id)
                try:
                    await self._agent.delete(sandbox_id, sandbox.generation, log_kept_as(sandbox))
                except Conflict:
                    await self._tell_unknown("sandbox", sandbox_id)  # the machine has newer orders than we know

    async def _checkpoints(self) -> None:
        present = await self._agent.checkpoint_ids()
        async with self._store.read() as tx:
            states = await tx.checkpoints.states_of(present)
        await self._remove("checkpoint", present, states, CheckpointState.DELETED, self._agent.delete_checkpoint)

    async def _volumes(self) -> None:
        present = sorted(await self._agent.volumes())
        async with self._store.read() as tx:
            states = await tx.volumes.states_of(present)
        await self._remove("volume", present, states, VolumeState.DELETED, self._agent.delete_volume)

    async def _models(self) -> None:
        present = await self._agent.models()
        async with self._store.read() as tx:
            states = await tx.models.states_of(present)
        await self._remove("model", present, states, ModelState.DELETED, self._agent.delete_model)

    async def _remove(
        self,
        noun: str,
        present: Sequence[str],
        states: Mapping[str, str],
        deleted: str,
        delete: Callable[[str], Awaitable[None]],
    ) -> None:
        for target in present:
            state = states.get(target)
            if state is None:
                await self._tell_unknown(noun, target)
            elif state == deleted:
                self._log.warning(f"removing a deleted {noun} that is still there", target=target)
                await delete(target)

    async def _tell_unknown(self, noun: str, target: str) -> None:
        if target in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add(target)
        self._log.warning("the machine has what the database does not know; left alone", noun=noun, target=target)
        async with self._store.write() as tx:
            await tx.events.add([(noun, target, target, "unknown", "on the machine and not in the database")])
