"""Remove checkpoints that were only kept for forks, once every fork has its disk.

Such are those taken to fork a sandbox as it was, and any of a deleted sandbox that a fork was still waiting for.
"""

from __future__ import annotations

from typing import ClassVar

from skerry.control.intents.checkpoints import request_deletion
from skerry.errors import Conflict
from skerry.model.checkpoint import CheckpointState
from skerry.store.store import Store


class ReleaseCheckpoints:
    moves: ClassVar[frozenset[tuple[CheckpointState, CheckpointState]]] = frozenset()
    """It asks as a user would, through the intents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def step(self) -> None:
        async with self._store.read() as tx:
            kept = {each.id: each for each in await tx.checkpoints.for_forks()}
            kept |= {each.id: each for each in await tx.checkpoints.of_deleted_sandboxes()}
            if not kept:
                return
            needed = await tx.sandboxes.waiting_for_checkpoint(list(kept))
        for key in kept.keys() - needed:
            try:
                async with self._store.write() as tx:
                    await request_deletion(tx, kept[key])
            except Conflict:
                continue  # a fork was asked for meanwhile
