"""Whether all that is said of use agrees, and every promise is kept: looked at whenever everything is read anew.

What is kept in memory is held against what the database says, the stays against the places, and the places against what
nodes have and queues allow. The first two are errors of ours. A promise may also be broken by an operator, who has
lowered a limit or taken memory out of a machine; nobody is stopped for that.
"""

from __future__ import annotations

from collections import Counter

from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.scheduler.ledger import check
from skerry.scheduler.snapshot import Queue, Snapshot
from skerry.store.store import Store
from skerry.telemetry import Log


class Inspection:
    def __init__(self, store: Store, mirror: Mirror, log: Log) -> None:
        self._store = store
        self._mirror = mirror
        self._log = log
        self._told: frozenset[str] = frozenset()
        """Promises that were not kept when it was last looked: each is told once."""
        self.looks = 0
        self.found: list[str] = []
        """By the newest look."""

    async def look(self, queues: tuple[Queue, ...], astray: list[str]) -> None:
        """`astray`: what the scheduler's own sums have been found to differ in."""
        async with self._store.read() as tx:
            unpaid = await tx.stays.astray()
        differing = [*self._mirror.astray, *astray, *unpaid]
        for problem in differing:
            self._log.error("the books differ", problem=problem)
        not_kept = broken(self._mirror, queues)
        for problem in not_kept:
            if problem not in self._told:
                self._log.warning("a promise is not kept", problem=problem)
        self._told = frozenset(not_kept)
        self.found = differing + not_kept
        self.looks += 1


def broken(mirror: Mirror, queues: tuple[Queue, ...]) -> list[str]:
    """Promises that are not kept, by what is in the database."""
    placements = tuple(mirror.placements.values())
    left = Counter(each.work for each in placements) + Counter(row.gang or row.id for row in mirror.waiting.values())
    ending = {each.work for each in placements if each.leaving or left[each.work] < each.size}
    nodes = tuple(mirror.exact(node_id) for node_id in mirror.records)
    return check(Snapshot(nodes, placements, queues=queues), ending)
