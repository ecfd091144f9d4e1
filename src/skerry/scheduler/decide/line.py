"""One queue in one pass: its nodes, its rules, who waits in it and what is known of each class of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf, nan

from skerry.scheduler.cell import Cell, Pool
from skerry.scheduler.decide.classes import Class, Members
from skerry.scheduler.decide.fate import Fate
from skerry.scheduler.decide.order import sequence, turns
from skerry.scheduler.decide.quotas import Quotas, Totals
from skerry.scheduler.decide.seating import Ask, least
from skerry.scheduler.decide.small import SMALL_S, KeptPart, Size
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.plan import Because
from skerry.scheduler.snapshot import Queue, Work


@dataclass(slots=True)
class Heads:
    """Of one pool of nodes: those that found no room, in order. The first of them that can have a time gets one."""

    blocked: list[Ask] = field(default_factory=list[Ask])
    asked: int = 0
    """How many of `blocked` have been looked at."""
    held: bool = False
    gang: bool = False
    """A gang holds room."""


@dataclass(slots=True)
class Line:
    queue: Queue
    pool: Pool | None
    accepting: bool
    quotas: Quotas
    kept: KeptPart
    heads: Heads
    waits: list[tuple[Work, Fate]] = field(default_factory=list[tuple[Work, Fate]])
    fates: dict[Class, Fate] = field(default_factory=dict[Class, Fate])
    """Classes that fit nowhere. In a pass room only shrinks, so they are not tried again; so with what follows."""
    capped: dict[tuple[Class, bool], Fate] = field(default_factory=dict[tuple[Class, bool], Fate])
    """Classes of big work, and whether it is short, where big work has all that it may have."""
    refused: dict[Class, tuple[float, Fate]] = field(default_factory=dict[Class, tuple[float, Fate]])
    """Classes that would delay somebody, and the shortest limit with which they would."""
    barred: dict[tuple[Class, str, str], Fate] = field(default_factory=dict[tuple[Class, str, str], Fate])
    """Classes for which a project or a user has no quota left."""
    helpless: set[tuple[Class, int, bool]] = field(default_factory=set[tuple[Class, int, bool]])
    """Classes for which no place can be taken, by tier and whether it was guaranteed."""
    sizes: dict[tuple[Class, bool, bool], Size] = field(default_factory=dict[tuple[Class, bool, bool], Size])

    def turns(self, works: list[Work]) -> Iterator[Work]:
        """Those within what is guaranteed to them first, then all others; both in the queue's order."""
        works = sequence(works, self.queue)
        if not self.quotas.guarantees:
            return turns(works, self.queue, self.quotas)
        return self._entitled_first(works)

    def _entitled_first(self, works: list[Work]) -> Iterator[Work]:
        later: list[Work] = []
        for work in turns(works, self.queue, self.quotas):
            if self.quotas.entitled(work):
                yield work
            else:
                later.append(work)
        yield from turns(later, self.queue, self.quotas)

    # What is known

    def known(self, group: Class, work: Work) -> Fate | None:
        fate = self.fates.get(group)
        if fate is not None:
            return fate
        if not self.capped and not self.refused:
            return None
        limit_s = work.limit_s
        if self.capped and (fate := self.capped.get((group, limit_s is not None and limit_s <= SMALL_S))):
            return None if self.kept.exempt(work) else fate
        if self.refused and (refused := self.refused.get(group)):
            return refused[1] if (inf if limit_s is None else limit_s) >= refused[0] else None
        return None

    def refuse(self, group: Class, ask: Ask, say: str) -> Fate:
        fate = Fate(ask, Because.QUEUE, say)
        limit_s = inf if ask.work.limit_s is None else ask.work.limit_s
        shortest, known = self.refused.get(group, (nan, fate))
        if not limit_s >= shortest:
            self.refused[group] = (limit_s, fate)
            known = fate
        return known

    def size(self, group: Class, work: Work) -> Size:
        key = (group, self.kept.short(work), self.kept.exempt(work))
        found = self.sizes.get(key)
        if found is None:
            found = self.sizes[key] = self.kept.size(work)
        return found

    # What its quotas leave

    def allowed(self, work: Work, group: Class) -> tuple[Members, Fate | None]:
        """Those of its members that may run, asking for kinds that they may have; or why it may not."""
        key = (group, work.project, work.user)
        fate = self.barred.get(key)
        if fate is not None and not self.quotas.runs(work):
            return (), fate
        count, barred = self.quotas.allowed(work, least(work))
        members = work.members if count == len(work.members) else work.members[:count]
        ask = Ask(work, members, least(work), self.pool, self.queue.terms, self.queue.strategy)
        if barred is not None:
            fate = self.barred[key] = Fate(ask, barred.because, barred.say)
            return (), fate
        if self.quotas.kinds_limited and any(shape.gpu_count for _, shape in members):
            narrowed = self._narrowed(work, members)
            if narrowed is None:
                say = "its limits leave no kind of accelerator that it could have"
                fate = self.barred[key] = Fate(ask, Because.QUOTA, say)
                return (), fate
            members = narrowed
        return members, None

    def _narrowed(self, work: Work, members: Members) -> Members | None:
        for shape, count in Counter(shape for _, shape in members).items():
            left = self.quotas.kinds_left(work, shape, count)
            if left is None:
                continue
            if not left:
                return None
            narrow = replace(shape, gpu_kinds=left)
            members = tuple((name, narrow if each == shape else each) for name, each in members)
        return members


def lines_of(
    queues: Iterable[Queue],
    cell: Cell,
    ledger: Ledger,
    history: Mapping[tuple[str, str, str], float],
) -> dict[str, Line]:
    """By name, in the order of the names. Queues with the same nodes share one head."""
    heads: dict[frozenset[object], Heads] = {}
    found: dict[str, Line] = {}
    for queue in sorted(queues, key=lambda queue: queue.name):
        pool = cell.pool(queue.terms)
        sums = cell.totals(pool)
        totals = Totals(sums.cpu_milli or 0, sums.memory_bytes or 0, sums.gpu_milli or 0)
        found[queue.name] = Line(
            queue,
            pool if queue.terms else None,
            pool.accepting > 0,
            Quotas(queue, ledger, totals, history),
            KeptPart(queue, totals, pool.nodes, ledger),
            heads.setdefault(frozenset(queue.terms), Heads()),
        )
    return found
