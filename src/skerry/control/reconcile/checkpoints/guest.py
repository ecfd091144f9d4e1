"""Make the checkpoints that sandboxes ask for of themselves, as if their owner had asked."""

from __future__ import annotations

from typing import Any, ClassVar

from skerry.client.agent import AgentClient
from skerry.control.intents.checkpoints import request_checkpoint
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.errors import Forbidden, SkerryError, Unavailable
from skerry.model.checkpoint import CheckpointState, Origin
from skerry.store.store import Store
from skerry.telemetry import Log

COMMENT_CHARACTERS_MAX = 1024


class AnswerGuests:
    moves: ClassVar[frozenset[tuple[CheckpointState, CheckpointState]]] = frozenset()
    """It asks as a user would, through the intents."""

    def __init__(self, store: Store, agent: AgentClient, book: ReportBook, log: Log) -> None:
        self._store = store
        self._agent = agent
        self._book = book
        self._log = log

    async def step(self) -> None:
        if not self._book.heard:
            return
        for report in self._book.all():
            if report.checkpoint_wanted is not None:
                await self._answer(report.sandbox_id, report.checkpoint_wanted)

    async def _answer(self, sandbox_id: str, wanted: dict[str, Any]) -> None:
        request_id = str(wanted.get("request_id", ""))[:64]
        try:
            async with self._store.write() as tx:
                sandbox = await tx.sandboxes.get(sandbox_id)
                if sandbox is None or not sandbox.spec.self_checkpoint:
                    raise Forbidden("this sandbox may not checkpoint itself")
                # Locked before looking: another control program may be answering the same request.
                await tx.sandboxes.lock(sandbox)
                if await tx.checkpoints.answering(sandbox_id, request_id) is not None:
                    return  # it is being made; the agent tells the guest when it is
                comment = str(wanted.get("comment", ""))[:COMMENT_CHARACTERS_MAX]
                await request_checkpoint(tx, sandbox_id, Origin.GUEST, comment=comment, request_id=request_id)
        except Unavailable:
            raise
        except SkerryError as error:
            self._log.info("guest's checkpoint refused", target=sandbox_id, say=error.say)
            await self._agent.refuse_checkpoint(sandbox_id, request_id, error.say)
