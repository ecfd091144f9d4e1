"""What each user of a queue had in the past, for fair shares: what was used long ago counts less.

The past is looked at in windows of half a half-life, each weighed by its middle, as far back as one is worth a
hundredth. It is read from the stays, so that a restart of this program forgets nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from skerry.model.queue import Policy, QueueSpec
from skerry.scheduler.snapshot import Amounts
from skerry.store.store import Store

READ_S = 60.0
"""Between two readings."""
WINDOWS = 14
"""Of half a half-life each: what is older counts less than a hundredth."""

Shares = dict[tuple[str, str, str], float]


class Past:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_s = -READ_S
        self._shares: Shares = {}

    async def shares(
        self, queues: Mapping[str, QueueSpec], total: Callable[[str], Amounts], now_s: float
    ) -> Mapping[tuple[str, str, str], float]:
        """(queue, project, user) -> the mean of its dominant share over the past, weighed, in half-lives. `total`: what
        the nodes of a queue have; asked only when it is read anew."""
        if not 0 <= now_s - self._read_s < READ_S:
            self._read_s = now_s
            self._shares = await self._read(queues, total, now_s)
        return self._shares

    async def _read(self, queues: Mapping[str, QueueSpec], total: Callable[[str], Amounts], now_s: float) -> Shares:
        by_half_life: dict[float, set[str]] = defaultdict(set)
        for name, spec in queues.items():
            if spec.policy is Policy.FAIR_SHARE and spec.half_life_s is not None:
                by_half_life[spec.half_life_s].add(name)
        found: Shares = defaultdict(float)
        totals = {name: total(name) for names in by_half_life.values() for name in names}
        async with self._store.read() as tx:
            for half_life_s, names in sorted(by_half_life.items()):
                width_s = half_life_s / 2
                for back in range(WINDOWS):
                    until_s = now_s - back * width_s
                    worth = 2 ** (-(back + 0.5) / 2) * width_s / half_life_s
                    for had in await tx.stays.of_queues(until_s - width_s, until_s):
                        if had.queue in names:
                            whole = totals[had.queue]
                            share = max(
                                _part(1000 * had.core_s / width_s, whole.cpu_milli),
                                _part(had.byte_s / width_s, whole.memory_bytes),
                                _part(had.gpu_milli_s / width_s, whole.gpu_milli),
                            )
                            found[had.queue, had.project, had.owner] += worth * share
        return dict(found)


def _part(amount: float, whole: int | None) -> float:
    return amount / whole if whole else 0.0
