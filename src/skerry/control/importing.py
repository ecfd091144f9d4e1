"""An archive on its way to a sandbox: received, made and written down, or given up whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial

from skerry.client.agent import AgentClient
from skerry.client.shares import Shares
from skerry.control.api.ports import HeldPorts
from skerry.control.intents import archives
from skerry.control.intents.capacity import WhyNever
from skerry.control.noticed import Noticed
from skerry.control.reconcile.orders import order_for
from skerry.errors import SkerryError
from skerry.model.archive import ArchivedSandbox, ImportOrder, ImportRequest
from skerry.model.identity import make_id
from skerry.model.sandbox import Sandbox
from skerry.store.store import Store
from skerry.telemetry import Log


class Importing:
    """The agent holds what is made until it is told of its fate. Should that not happen now (either program may die at
    any moment), `settle` tells it later, by what is in the database."""

    def __init__(
        self,
        store: Store,
        agent: AgentClient,
        held: HeldPorts,
        log: Log,
        *,
        why_never: WhyNever,
        shares: Shares,
        sandboxes_max: int,
    ) -> None:
        self._store = store
        self._agent = agent
        self._held = held
        self._log = log
        self._why_never = why_never
        self._shares = shares
        self._sandboxes_max = sandboxes_max
        self._going: set[str] = set()

    async def run(self, chunks: AsyncIterator[bytes], asked: ImportRequest, owner: str) -> Sandbox:
        """Nobody can repeat an upload, so any error is its end, and leaves nothing."""
        if asked.name is not None:
            async with self._store.read() as tx:
                await archives.check_name(tx, asked.name)
        sandbox_id = make_id("sandbox", os.urandom(6))
        self._going.add(sandbox_id)
        try:
            made = await self._make(sandbox_id, chunks, asked, owner)
        finally:
            await asyncio.shield(self._settle_now(sandbox_id))
        return made

    async def _make(self, sandbox_id: str, chunks: AsyncIterator[bytes], asked: ImportRequest, owner: str) -> Sandbox:
        document = await self._received(sandbox_id, chunks)
        checkpoint_ids = [make_id("checkpoint", os.urandom(6)) for _ in document.checkpoints]
        held = await self._held.beside(document.spec.ports)
        share = self._shares.folders() if document.spec.mounts else ()
        most = self._sandboxes_max
        fit = partial(archives.fit, why_never=self._why_never, share=share, sandboxes_max=most, held=held)
        async with self._store.write() as tx:
            await fit(tx, document, asked)
            copy = await archives.is_copy(tx, document)
        order = ImportOrder(
            checkpoints=checkpoint_ids,
            hostname=document.spec.hostname or asked.name or document.name,
            renew_identity=copy,
        )
        made = await self._agent.make_import(sandbox_id, order)
        async with self._store.write() as tx:  # what was free then may be taken by now
            fitted = await fit(tx, document, asked)
            return await archives.admit(
                tx,
                document,
                fitted,
                sandbox_id=sandbox_id,
                checkpoint_ids=checkpoint_ids,
                made=made,
                owner=owner,
            )

    async def _received(self, sandbox_id: str, chunks: AsyncIterator[bytes]) -> ArchivedSandbox:
        noticed = Noticed(chunks)
        try:
            return await self._agent.receive_archive(sandbox_id, await noticed.begun())
        except SkerryError as error:
            raise noticed.broke or error from error

    async def _settle_now(self, sandbox_id: str) -> None:
        try:
            await self._settle(sandbox_id)
        except SkerryError as error:
            self._log.info("an import is settled later", target=sandbox_id, say=error.say, because=error.because)
        finally:
            self._going.discard(sandbox_id)

    async def settle(self) -> None:
        """Those that are pending on the machine and in nobody's hands."""
        for pending in await self._agent.pending_imports():
            if pending.sandbox_id not in self._going:
                await self._settle(pending.sandbox_id)

    async def _settle(self, sandbox_id: str) -> None:
        found = [each for each in await self._agent.pending_imports() if each.sandbox_id == sandbox_id]
        for pending in found:
            async with self._store.read() as tx:
                sandbox = await tx.sandboxes.get(sandbox_id)
                brought = pending.image_digest
                wanted = brought is not None and bool(await tx.images.with_digest(brought))
            if sandbox is not None:
                await self._agent.keep_import(await order_for(sandbox, self._store))
            else:
                await self._agent.give_up_import(sandbox_id, image=not wanted)
