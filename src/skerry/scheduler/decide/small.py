"""The part of a queue that big work may not fill, so that small work does not wait for it.

In a heavy tail one job in a hundred is nearly all of the load, and without bounds the mean wait grows with the square
of the sizes (Pollaczek-Khinchin). Small is what asks for at most a tenth of the part that is kept, and for at most an
hour: then even a kept part that is full of small work has a place again within minutes. Work that does not say when it
ends is not small. The tiers production and monitoring are not held to it: they are not what fills a queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from skerry.model.tier import Tier
from skerry.scheduler.decide.quotas import Totals, amounts, counted
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.snapshot import Placement, Queue, Work

SMALL_PART = 0.1
"""Of the kept part, that small work may ask for at most: ten of them have room at once."""
SMALL_S = 3600.0

Sums = tuple[int, int, int]
NOTHING: Sums = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Size:
    asked: Sums
    small: bool
    big: bool
    """It is held to the part that big work may have."""


@dataclass(slots=True)
class _Running:
    """A work that has places."""

    short: bool
    asked: Sums = (0, 0, 0)
    sandboxes: dict[str, Sums] = field(default_factory=dict[str, Sums])


class BigWork:
    """What big work has of a queue."""

    def __init__(self, totals: Totals, bound: float) -> None:
        self._totals = totals
        self._bound = bound
        self._works: dict[str, _Running] = {}
        self._work_of: dict[str, str] = {}
        self.sum: Sums = (0, 0, 0)

    def count(self, placement: Placement, sign: int) -> None:
        if placement.tier.rank >= Tier.PRODUCTION.rank:
            return
        work = self._works.get(placement.work)
        if work is None:
            short = placement.ends_s is not None and placement.ends_s - placement.since_s <= SMALL_S
            work = self._works[placement.work] = _Running(short)
        before = work.asked if self._big(work) else NOTHING
        shape = placement.shape
        has = (shape.cpu_milli, shape.memory_bytes, shape.gpu_count * shape.gpu_milli)
        work.asked = _plus(work.asked, has, sign)
        if sign > 0:
            work.sandboxes[placement.id] = has
            self._work_of[placement.id] = placement.work
        else:
            del work.sandboxes[placement.id], self._work_of[placement.id]
            if not work.sandboxes:
                del self._works[placement.work]
        after = work.asked if self._big(work) else NOTHING
        self.sum = _plus(_plus(self.sum, before, -1), after, 1)

    def without(self, gone: Iterable[str]) -> Sums:
        left = self.sum
        for sandbox in gone:
            name = self._work_of.get(sandbox)
            if name is not None and self._big(self._works[name]):
                left = _plus(left, self._works[name].sandboxes[sandbox], -1)
        return left

    def _big(self, work: _Running) -> bool:
        return not work.short or self._totals.dominant(*work.asked) > self._bound


class KeptPart:
    def __init__(self, queue: Queue, totals: Totals, nodes: int, ledger: Ledger) -> None:
        self._totals = totals
        self.active = nodes * queue.small_share >= 1
        """With fewer nodes there is no node to keep."""
        share = 1 - queue.small_share
        self._most = (
            int(totals.cpu_milli * share),
            int(totals.memory_bytes * share),
            int(totals.gpu_milli * share),
        )
        self._bound = bound = queue.small_share * SMALL_PART
        self._big = BigWork(totals, bound)
        if self.active:
            self._big = ledger.watch(queue.name, (totals, bound), lambda: BigWork(totals, bound))
        self._next: tuple[Sums, frozenset[str], float | None] | None = None
        self.say = (
            f"big work has all that it may have of queue {queue.name}, "
            f"{queue.small_share:.0%} of which is kept for small work"
        )

    # Sizes

    def short(self, work: Work) -> bool:
        return work.limit_s is not None and work.limit_s <= SMALL_S

    def exempt(self, work: Work) -> bool:
        return work.tier is Tier.PRODUCTION or work.tier is Tier.MONITORING

    def size(self, work: Work) -> Size:
        asked = amounts(counted(work, len(work.members)))
        small = self.short(work) and self._totals.dominant(*asked) <= self._bound
        return Size(asked, small, self.active and not small and not self.exempt(work))

    # What big work has

    def expects(self, asked: Sums, gone: Iterable[str], at_s: float | None) -> None:
        """Big work that is next gets so much at this time."""
        self._next = (asked, frozenset(gone), at_s)

    def spares(self, asked: Sums, ends_s: float | None) -> bool:
        """Whether that still gets its part if this, which would end then, has its own."""
        if self._next is None:
            return True
        its, gone, at_s = self._next
        return (at_s is not None and ends_s is not None and ends_s <= at_s) or self.room(_plus(its, asked, 1), gone)

    def room(self, asked: Sums, gone: Iterable[str] = ()) -> bool:
        """Whether big work may have so much, once others have ended. Alone it may have all: else it would never."""
        used = self._big.without(gone) if gone else self._big.sum
        if not any(used):
            return True
        after = _plus(used, asked, 1)
        return all(not more or sum_ <= most for more, sum_, most in zip(asked, after, self._most, strict=True))


def _plus(one: Sums, other: Sums, sign: int) -> Sums:
    return one[0] + sign * other[0], one[1] + sign * other[1], one[2] + sign * other[2]
