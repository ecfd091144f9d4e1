"""Stop those who have to make room, after a checkpoint where they have such made; and let them wait for room again.

Where checkpoints are made by themselves one more is made first, so that what it did since the last is kept beside the
disk, which stays in any case. It takes no arrow of its own: it asks for stop and start as people do.
"""

from __future__ import annotations

from typing import ClassVar

from skerry.control.intents import evictions, sandboxes
from skerry.control.intents.checkpoints import request_checkpoint
from skerry.errors import SkerryError
from skerry.model.checkpoint import CheckpointState, Origin
from skerry.model.sandbox import S, Sandbox
from skerry.store.store import Store
from skerry.store.transaction import Transaction
from skerry.telemetry import Log

AT_ONCE = 100
CHECKPOINT_S_MAX = 120.0
"""A checkpoint that takes longer is not waited for: somebody waits for the room."""
COMMENT = "before it made room for others"


class EvictSandboxes:
    moves: ClassVar[frozenset[tuple[S, S]]] = frozenset()

    def __init__(self, store: Store, log: Log) -> None:
        self._store = store
        self._log = log

    async def step(self) -> None:
        async with self._store.read() as tx:
            found = await tx.sandboxes.evicted(AT_ONCE)
        for sandbox in found:
            try:
                async with self._store.write() as tx:
                    await _carry_out(tx, sandbox)
            except SkerryError as error:
                # Such as its queue being full, or a secret of its that is gone: it is tried again later.
                self._log.info("eviction waits", target=sandbox.id, say=error.say, because=error.because)


async def _carry_out(tx: Transaction, sandbox: Sandbox) -> None:
    if sandbox.state is S.STOPPED:
        await evictions.come_back(tx, sandbox)
    elif await _is_kept(tx, sandbox):
        await sandboxes.stop(tx, sandbox, sandbox.stop_grace_s, evicted=sandbox.evicted)


async def _is_kept(tx: Transaction, sandbox: Sandbox) -> bool:
    """Whether nothing is to be waited for before it is stopped."""
    if sandbox.spec.checkpoints.every_s is None or sandbox.state not in (S.RUNNING, S.ASLEEP):
        return True
    made = [
        each
        for each in await tx.checkpoints.living_of(sandbox.id)
        if each.comment == COMMENT and sandbox.placed_at is not None and each.created_at >= sandbox.placed_at
    ]
    if not made:
        await request_checkpoint(tx, sandbox.id, Origin.AUTO, comment=COMMENT)
        return False
    newest = max(made, key=lambda each: each.created_at)
    late_s = (tx.now - newest.created_at).total_seconds()
    return newest.state is not CheckpointState.CREATING or late_s > CHECKPOINT_S_MAX
