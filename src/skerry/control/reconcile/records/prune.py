"""Forget old records: tombstones, ended operations and events each have a limit of age or number."""

from __future__ import annotations

from typing import ClassVar

from skerry.model.sandbox import S
from skerry.store.store import Store


class PruneRecords:
    moves: ClassVar[frozenset[tuple[S, S]]] = frozenset()
    """A pruned record has made its last move."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def step(self) -> None:
        async with self._store.write() as tx:
            await tx.pruning.tombstones()
            await tx.pruning.operations()
            await tx.pruning.events()
            await tx.pruning.stays()
            await tx.metering.prune()
