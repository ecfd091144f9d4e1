"""One pass: each that waits has its turn, by tier, queue and order, and starts, has others make room, or waits on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from skerry.model.queue import Strategy
from skerry.model.tier import Tier
from skerry.scheduler.cell import Cell
from skerry.scheduler.decide.classes import Class, Classes, Members
from skerry.scheduler.decide.fate import Fate
from skerry.scheduler.decide.forecast import forecast
from skerry.scheduler.decide.holds import Hold, Holds
from skerry.scheduler.decide.line import Line, lines_of
from skerry.scheduler.decide.preempt import Preemption
from skerry.scheduler.decide.seating import Ask, Seated, Seating, least
from skerry.scheduler.decide.waiting import Waits
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.plan import Because, Eviction, Plan, Start
from skerry.scheduler.snapshot import Placement, Snapshot, Work

ABOVE_ALL = max(tier.rank for tier in Tier) + 1


class Pass:
    def __init__(self, snapshot: Snapshot, now: float, cell: Cell, ledger: Ledger) -> None:
        self._snapshot = snapshot
        self._now = now
        self._cell = cell
        self._ledger = ledger
        self._seating = Seating(cell, snapshot.nodes)
        self._holds = Holds(self._seating, now, snapshot.placements, ledger)
        self._lines = lines_of(snapshot.queues, cell, ledger, snapshot.history)
        queues = {queue.name: queue for queue in snapshot.queues}
        self._preemption = Preemption(self._seating, self._holds, now, queues)
        self._lowest = ledger.lowest_rank(ABOVE_ALL)
        self._classes = Classes()
        self._unasked = 0
        """Of those that found no room: who may be the head of a pool, and has not been looked at for that."""
        self._starts: list[Start] = []
        self._evictions: list[Eviction] = []

    def run(self) -> Plan:
        tiers: dict[Tier, dict[str, list[Work]]] = defaultdict(lambda: defaultdict(list))
        stray: dict[str, list[tuple[Work, Fate]]] = defaultdict(list)
        tier: Tier | None = None
        queue, alike = "", list[Work]()
        for work in self._snapshot.waiting:
            if work.tier is tier and work.queue == queue and work.members:
                alike.append(work)  # as the one before it: of tens of thousands most are
            elif work.queue not in self._lines:
                stray[work.queue].append((work, _no_queue(work)))
            elif work.members:
                tier, queue = work.tier, work.queue
                alike = tiers[tier][queue]
                alike.append(work)
        try:
            for tier in sorted(tiers, key=lambda tier: -tier.rank):
                self._tier(tiers[tier], lower=self._lowest < tier.rank)
        finally:
            self._holds.let_in()
        waits = {name: line.waits for name, line in self._lines.items()} | stray
        return Plan(
            tuple(self._starts),
            tuple(self._evictions),
            Waits(self._cell, self._snapshot.nodes, waits, partial(forecast, self._seating, self._holds, self._now)),
        )

    def _tier(self, queues: dict[str, list[Work]], lower: bool) -> None:
        """One from each queue in turn: none with nodes in common waits for all of another's. `lower`: work of lower
        tiers has places, which could be taken."""
        going = [(self._lines[name], self._lines[name].turns(queues[name])) for name in sorted(queues)]
        while len(going) > 1:
            left: list[tuple[Line, Iterator[Work]]] = []
            for line, turns in going:
                work = next(turns, None)
                if work is not None:
                    self._offer(line, work)
                    left.append((line, turns))
            going = left
        for line, turns in going:
            self._rest(line, turns, lower)

    def _rest(self, line: Line, turns: Iterator[Work], lower: bool) -> None:
        """As `_offer` for each, with the most frequent case at hand: of whose class it is known that it has to wait."""
        numbers, fates, waits, leaving = self._classes.by_identity, line.fates, line.waits, self._holds.leaving
        simple = not line.quotas.limits and not line.quotas.guarantees
        for work in turns:
            members = work.members
            if simple and len(members) == 1 and not work.together and (number := numbers.get(id(members[0][1]))):
                group = number[0]
                fate = fates.get(group) or line.known(group, work)
                if fate is not None and (
                    not fate.no_room
                    or not (lower or leaving)
                    or (line.helpless and (group, work.tier.rank, False) in line.helpless)
                ):
                    waits.append((work, fate))
                    continue
            self._offer(line, work)

    # One turn

    def _offer(self, line: Line, work: Work) -> None:
        members = work.members
        if line.quotas.limits:
            members, fate = line.allowed(work, self._classes.of(work, members))
            if fate is not None:
                line.waits.append((work, fate))
                return
        group = self._classes.of(work, members)
        fate = known = line.known(group, work)
        if fate is None:
            ask = Ask(work, members, least(work), line.pool, line.queue.terms, line.queue.strategy)
            fate = self._first_of_class(line, ask, group)
            if fate is None:
                return
        if fate.no_room:
            made: Fate | None = None
            if self._lowest < work.tier.rank or self._holds.leaving or line.quotas.guarantees:
                made = self._made_room(line, work, members, group)
            if made is None and known is None:
                self._blocked(line, fate.ask)
            fate = made or fate
        line.waits.append((work, fate))

    def _first_of_class(self, line: Line, ask: Ask, group: Class) -> Fate | None:
        """None: it has started. Else why it has not, noted for its class."""
        if not line.accepting:
            fate = Fate(ask, Because.NO_NODES, f"queue {line.queue.name} has no node that accepts work")
            line.fates[group] = fate
            return fate
        if line.size(group, ask.work).big:
            fate = self._beyond_part(line, ask, group)
            if fate is not None:
                return fate
        fate = self._start(line, ask, group)
        if fate is not None and fate.no_room and not _may_change(ask):
            line.fates[group] = fate
        return fate

    def _start(self, line: Line, ask: Ask, group: Class) -> Fate | None:
        if self._unasked:
            # Whether there is room at all is asked first: most often there is none, and then nobody's time matters.
            self._holds.let_in()
            if not self._seating.fits(ask):
                return self._no_room(ask)
            self._reserve()
        if not self._holds.all:
            seated = self._seating.seat(ask)
            if seated is None:
                return self._no_room(ask)
            self._started(line, ask, seated, backfilled=False)
            return None
        return self._past_others(line, ask, group)

    def _past_others(self, line: Line, ask: Ask, group: Class) -> Fate | None:
        limit_s = ask.work.limit_s
        strict = line.heads.held and not line.queue.backfill and not line.size(group, ask.work).small
        outlasted = self._holds.outlast(limit_s)
        seated: Seated | None = None
        if not strict:
            if outlasted:
                self._holds.let_in()
            else:
                self._holds.keep_out()
            seated = self._seating.seat(ask)
        if seated is None:
            self._holds.let_in()
            mark = self._cell.mark()
            seated = self._seating.seat(ask)
            if seated is None:
                self._cell.rollback(mark)
                return self._no_room(ask)
            if strict or not self._holds.spared(seated, limit_s):
                self._cell.rollback(mark)
                return line.refuse(group, ask, self._behind())
            self._cell.keep(mark)
        self._started(line, ask, seated, backfilled=line.heads.held)
        return None

    def _no_room(self, ask: Ask) -> Fate:
        most = self._seating.most
        return Fate(ask, Because.GANG if most else Because.FIT, most=most)

    def _beyond_part(self, line: Line, ask: Ask, group: Class) -> Fate | None:
        size = line.size(group, ask.work)
        if not line.kept.room(size.asked):
            self._blocked(line, ask)
            fate = Fate(ask, Because.RESERVED, line.kept.say)
            line.capped[group, line.kept.short(ask.work)] = fate
            return fate
        self._reserve()
        limit_s = ask.work.limit_s
        if line.kept.spares(size.asked, None if limit_s is None else self._now + limit_s):
            return None
        return line.refuse(group, ask, self._behind())

    # Those who are next

    def _blocked(self, line: Line, ask: Ask) -> None:
        if not line.heads.held:
            line.heads.blocked.append(ask)
            self._unasked += 1

    def _reserve(self) -> None:
        """Room for the head of each pool that has none yet."""
        if not self._unasked:
            return
        self._unasked = 0
        for line in self._lines.values():
            heads = line.heads
            while not heads.held and heads.asked < len(heads.blocked):
                self._reserve_for(heads.blocked[heads.asked])
                heads.asked += 1
            heads.asked = len(heads.blocked)

    def _reserve_for(self, ask: Ask) -> None:
        line = self._lines[ask.work.queue]
        size = line.size(self._classes.of(ask.work, ask.members), ask.work)
        hold = self._holds.reserve(ask, partial(line.kept.room, size.asked) if size.big else None)
        if hold is not None:
            self._hold(line, hold)
            if size.big:
                line.kept.expects(size.asked, hold.gone, hold.at_s)

    def _hold(self, line: Line, hold: Hold) -> None:
        self._holds.keep(hold)
        line.heads.held = True
        line.heads.gang = line.heads.gang or hold.ask.gang

    def _behind(self) -> str:
        names = [hold.ask.work.id for hold in self._holds.all[:3]]
        return f"there is room for it, but it could delay {', '.join(names)}, which is ahead of it"

    # Taking places

    def _made_room(self, line: Line, work: Work, members: Members, group: Class) -> Fate | None:
        if line.heads.gang and len(work.members) > 1:
            return None
        entitled = line.quotas.guarantees and line.quotas.entitled(work)
        key = (group, work.tier.rank, entitled)
        if key in line.helpless:
            return None
        self._reserve()
        ask = Ask(work, members, least(work), line.pool, line.queue.terms, line.queue.strategy)
        hold = self._preemption.room_to_come(ask)
        if hold is None and line.queue.preemption and (entitled or self._lowest < work.tier.rank):
            made = self._preemption.make_room(ask, line.quotas if entitled else None)
            if made is not None:
                hold, victims = made
                self._evict(work, victims)
        if hold is None:
            line.helpless.add(key)
            return None
        self._hold(line, hold)
        line.quotas.awaits(work)
        return Fate(ask, Because.PREEMPTING, "what it takes the place of is being stopped")

    def _evict(self, work: Work, victims: list[Placement]) -> None:
        self._preemption.spend(victims)
        for each in victims:
            reclaim = each.tier.rank >= work.tier.rank
            why = f"who is guaranteed what {each.project} borrowed" if reclaim else f"of the tier {work.tier.value}"
            say = f"it makes room for {work.id}, {why}"
            self._evictions.append(Eviction(each.id, each.work, work.id, say, reclaim))

    # Starting

    def _started(self, line: Line, ask: Ask, seated: Seated, backfilled: bool) -> None:
        work = ask.work
        ends_s = None if work.limit_s is None else self._now + work.limit_s
        line.quotas.changes += 1
        wishes = dict(work.members)
        for name, shape, seat in seated.seats:
            self._starts.append(Start(name, work.id, seat.node, seat.devices, seat.fits, seat.terms, backfilled))
            placement = Placement(
                name,
                work.id,
                seat.node,
                wishes[name],
                seat.devices,
                work.queue,
                work.project,
                work.user,
                work.tier,
                work.priority,
                self._now,
                ends_s,
                ask.minimum,
            )
            self._ledger.add(placement)
            if shape is not wishes[name]:  # a quota narrowed it; what is typical is learnt from what was wished
                self._cell.take(placement)


def _no_queue(work: Work) -> Fate:
    ask = Ask(work, work.members, least(work), None, (), Strategy.AUTO)
    return Fate(ask, Because.NO_NODES, f"there is no queue {work.queue}")


def _may_change(ask: Ask) -> bool:
    """Whether it may fit after others have started: where it may be depends on where they are."""
    return any(shape.spreads or any(not each.away for each in shape.neighbours) for _, shape in ask.members)
