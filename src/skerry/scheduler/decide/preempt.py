"""Whose place is taken: the fewest and least, and only where that is sure to make the room.

Lower tiers make room for higher ones, and within a queue those who borrowed what is guaranteed to somebody else. What
has been asked to end is remembered by its leaving: while it does, whoever it leaves for holds the room (decide/holds),
and nobody else is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from skerry.model.tier import Tier, preempts
from skerry.scheduler.cell import Cell, Pool
from skerry.scheduler.columns import Ints, Mask, numbers
from skerry.scheduler.decide.holds import Hold, Holds
from skerry.scheduler.decide.quotas import Quotas
from skerry.scheduler.decide.seating import Ask, Seated, Seating
from skerry.scheduler.present import COST, CPU, GPU, MEMORY, PRIORITY, RANK, SINCE, Present, ascending
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Placement, Queue

NODES_MAX = 8
"""Nodes on which taking places is found to make room, of which the best is taken."""

GROUPS_MAX = 64
"""Of the victims for a gang, nodes and then works that are tried to be given back; each costs seating it."""

RANKS = {tier: tier.rank for tier in Tier}

Unit = tuple[Placement, ...]
"""What can only be taken together."""


@dataclass(slots=True)
class Taken:
    """Victims so far."""

    all: dict[str, Placement] = field(default_factory=dict[str, Placement])
    of_work: Counter[str] = field(default_factory=Counter[str])
    of_queue: Counter[str] = field(default_factory=Counter[str])

    def add(self, unit: Unit) -> None:
        for each in unit:
            self.all[each.id] = each
            self.of_work[each.work] += 1
            self.of_queue[each.queue] += 1


class Victims:
    """Who may be asked."""

    def __init__(self, present: Present, slots: Ints, now: float) -> None:
        self._present = present
        self._now = now
        self._slots = slots
        self._ids: frozenset[str] | None = None
        self.any = bool(slots.size)

    @property
    def all(self) -> Iterator[Placement]:
        return map(self._present.at, numbers(self._slots))

    def __contains__(self, sandbox: str) -> bool:
        if self._ids is None:
            self._ids = frozenset(self._present.ids(self._slots))
        return sandbox in self._ids

    def on_node(self, node: str) -> list[Placement]:
        """The least first."""
        there = (each for each in self._present.on_node.get(node, {}).values() if each.id in self)
        return sorted(there, key=self._worth)

    def _worth(self, placement: Placement) -> tuple[int, int, float, float, str]:
        lost_s = placement.lost_s(self._now)
        return RANKS[placement.tier], placement.priority, lost_s, -placement.since_s, placement.id

    def nodes(self, may: Mask | None = None) -> Iterator[str]:
        """By the least that they have; `may`: only these, by their numbers in `present`."""
        present, slots = self._present, self._slots
        on = present.node_numbers(slots)
        lost_s = present.line(COST, slots)
        lost_s = np.where(np.isnan(lost_s), self._now - present.line(SINCE, slots), lost_s)
        values = np.stack((present.line(RANK, slots), present.line(PRIORITY, slots), lost_s))
        least = np.full((len(values), len(present.nodes)), np.inf)
        for number, found in enumerate(least):
            np.minimum.at(found, on, values[number])
            same = values[number] == found.take(on)  # only the least so far have a say in what comes next
            on, values = on[same], values[:, same]
        nodes = (np.isfinite(least[0]) if may is None else np.isfinite(least[0]) & may).nonzero()[0]
        names = [present.nodes[node] for node in numbers(nodes)]
        for at in ascending([found.take(nodes) for found in least], names.__getitem__):
            yield names[at]

    def room(self, cell: Cell, shape: Shape, pool: Pool | None) -> Ints | None:
        """Of these shapes there can be at most on each node with them gone, by its number."""
        present = self._present
        cpu, memory, gpu = (present.by_node(line, self._slots) for line in (CPU, MEMORY, GPU))
        return cell.room_with(shape, pool, present.nodes, (cpu, memory, gpu))


@dataclass(frozen=True, slots=True)
class Choice:
    ask: Ask
    quotas: Quotas | None
    victims: Victims
    nodes: Iterator[str]
    """The first to be asked first."""


class Preemption:
    def __init__(self, seating: Seating, holds: Holds, now: float, queues: Mapping[str, Queue]) -> None:
        self._cell: Cell = seating.cell
        self._seating = seating
        self._holds = holds
        self._now = now
        self._queues = queues
        self._left = {name: queue.evictions_left for name, queue in queues.items()}
        self._by_tier: dict[Tier, Victims] = {}

    def room_to_come(self, ask: Ask) -> Hold | None:
        """Seats in the room of what is leaving anyway."""
        if not self._holds.leaving:
            return None
        mark = self._holds.ahead()
        seated = self._seating.seat(ask)
        self._cell.rollback(mark)
        return None if seated is None else Hold(ask, seated, None, frozenset(self._holds.leaving), evicting=True)

    def make_room(self, ask: Ask, quotas: Quotas | None) -> tuple[Hold, list[Placement]] | None:
        """Victims and the seats that they leave it; nobody has been asked to end yet, and nobody is counted.
        `quotas`: of its queue, if it is within what is guaranteed to it."""
        if not any(left > 0 for left in self._left.values()) or not self._seating.could_ever(ask):
            return None
        victims = self._lower(ask.work.tier) if quotas is None else self._lower_or_borrowed(ask, quotas)
        if not victims.any:
            return None
        mark = self._holds.ahead()
        try:
            if self._seating.fits(ask):
                return None  # kept from it by somebody's hold, which taking places does not change
            nodes = self._nodes(ask, victims)
            if nodes is None:
                return None
            find = self._on_any_node if _simple(ask) else self._on_many_nodes
            best = find(Choice(ask, quotas, victims, nodes))
        finally:
            self._cell.rollback(mark)
        if best is None:
            return None
        seated, taken = best
        gone = frozenset(self._holds.leaving | taken.all.keys())
        return Hold(ask, seated, None, gone, evicting=True), sorted(taken.all.values(), key=lambda each: each.id)

    def spend(self, victims: Iterable[Placement]) -> None:
        for each in victims:
            self._left[each.queue] = self._left.get(each.queue, 0) - 1
            self._holds.leaving.add(each.id)

    # Who may be asked at all

    def _lower(self, tier: Tier) -> Victims:
        """Of lower tiers: the same for all work of a tier, whom others have taken meanwhile left aside later."""
        if tier not in self._by_tier:
            slots = self._askable
            lower = self._present.line(RANK, slots) < tier.rank
            self._by_tier[tier] = Victims(self._present, slots[lower], self._now)
        return self._by_tier[tier]

    def _lower_or_borrowed(self, ask: Ask, quotas: Quotas) -> Victims:
        nobody = Taken()
        slots = self._askable
        slots = slots[self._present.line(RANK, slots) <= ask.work.tier.rank]
        may = [
            slot
            for slot in numbers(slots)
            if preempts(ask.work.tier, (each := self._present.at(slot)).tier)
            or self._borrowed(each, ask, quotas, nobody)
        ]
        return Victims(self._present, np.array(may, np.int64), self._now)

    @property
    def _present(self) -> Present:
        return self._holds.present

    @cached_property
    def _askable(self) -> Ints:
        """Nobody who starts in this pass."""
        least = {name: queue.minimum_run_s for name, queue in self._queues.items() if queue.preemption}
        return self._present.askable(self._now, least)

    def _nodes(self, ask: Ask, victims: Victims) -> Iterator[str] | None:
        """Where taking places could make room; None: nowhere."""
        alike = ask.alike
        room = None if alike is None else victims.room(self._cell, alike, ask.pool)
        if room is None:
            return victims.nodes() if self._room_without(ask, victims) else None
        if int(room.sum()) < ask.minimum:
            return None
        return victims.nodes(room > 0 if _simple(ask) else None)

    def _borrowed(self, placement: Placement, ask: Ask, quotas: Quotas, taken: Taken) -> bool:
        work = ask.work
        return (
            placement.queue == work.queue
            and placement.project != work.project
            and placement.tier is not Tier.MONITORING
            and placement.tier.rank <= work.tier.rank
            and quotas.borrowed(placement, self._going(placement, taken))
        )

    def _going(self, placement: Placement, taken: Taken) -> list[Placement]:
        """Of its project and queue: what has been asked to end, and what would be."""
        present = self._present.all
        leaving = (present[each] for each in sorted(self._holds.leaving) if each in present)
        return [
            each
            for each in (*leaving, *taken.all.values())
            if (each.queue, each.project) == (placement.queue, placement.project) and each.id != placement.id
        ]

    # One sandbox: node by node

    def _on_any_node(self, choice: Choice) -> tuple[Seated, Taken] | None:
        best: tuple[tuple[object, ...], Seated, Taken] | None = None
        found = 0
        for node in choice.nodes:
            made = self._take_until(choice, choice.victims.on_node(node))
            if made is None:
                continue
            seated, taken = made
            key = (*self._price(taken), node)
            if best is None or key < best[0]:
                best = (key, seated, taken)
            found += 1
            if found == NODES_MAX:
                break
        return None if best is None else best[1:]

    def _take_until(self, choice: Choice, victims: list[Placement]) -> tuple[Seated, Taken] | None:
        """Takes the least first until there is room, then gives back whom it did not need, the most first."""
        cell = self._cell
        mark = cell.mark()
        try:
            units = self._units(choice, victims, Taken())
            for unit in units:
                self._free(unit)
            if not units or not self._seating.fits(choice.ask):
                return None
            needed = self._needed(choice.ask, units, len(units))
            seated = self._seating.seat(choice.ask)
        finally:
            cell.rollback(mark)
        return None if seated is None else (seated, _all_of(needed))

    # A gang: on as few nodes as make the room

    def _on_many_nodes(self, choice: Choice) -> tuple[Seated, Taken] | None:
        cell, ask = self._cell, choice.ask
        mark = cell.mark()
        try:
            taken = Taken()
            groups: list[Unit] = []
            step = 1
            while not self._seating.fits(ask):
                more = [self._units(choice, choice.victims.on_node(node), taken) for node in islice(choice.nodes, step)]
                if not more:
                    return None
                groups += [tuple(each for unit in units for each in unit) for units in more if units]
                for units in more:
                    for unit in units:
                        self._free(unit)
                step *= 2
            needed = self._needed(ask, groups, GROUPS_MAX)
            units = [unit for group in reversed(needed) for unit in self._parts(group)]
            needed = self._needed(ask, units, GROUPS_MAX)
            seated = self._seating.seat(ask)
        finally:
            cell.rollback(mark)
        return None if seated is None else (seated, _all_of(needed))

    def _parts(self, group: Unit) -> list[Unit]:
        """Of one node: what can be given back for itself."""
        works: dict[str, list[Placement]] = defaultdict(list)
        for each in group:
            works[each.work].append(each)
        return [tuple(works[work]) for work in dict.fromkeys(each.work for each in group)]

    def _units(self, choice: Choice, victims: list[Placement], taken: Taken) -> list[Unit]:
        """All of them that may be taken, the least first; they are added to `taken`."""
        units: list[Unit] = []
        for placement in victims:
            unit = self._unit(placement, choice, taken)
            if unit is not None:
                units.append(unit)
                taken.add(unit)
        return units

    def _free(self, unit: Unit) -> None:
        for each in unit:
            self._cell.free(each.id)

    def _needed(self, ask: Ask, units: list[Unit], tries: int) -> list[Unit]:
        """Without those that can be given back, all of which are freed; after so many tries the rest is kept."""
        needed: list[Unit] = []
        for number, unit in enumerate(reversed(units)):
            if number >= tries:
                needed.append(unit)
                continue
            mark = self._cell.mark()
            for each in unit:
                self._cell.take(each)
            if self._seating.fits(ask):
                self._cell.keep(mark)
            else:
                self._cell.rollback(mark)
                needed.append(unit)
        return needed

    def _room_without(self, ask: Ask, victims: Victims) -> bool:
        """Whether there would be room with all of them gone: asked once, before it is asked of each node."""
        mark = self._cell.mark()
        for each in victims.all:
            self._cell.free(each.id)
        found = self._seating.fits(ask)
        self._cell.rollback(mark)
        return found

    def _unit(self, placement: Placement, choice: Choice, taken: Taken) -> Unit | None:
        """It alone if its gang can do without it, else its whole gang; None if that may not be taken."""
        if placement.id in taken.all or placement.id in self._holds.leaving:
            return None
        gang = [each for each in self._gang(placement.work) if each.id not in taken.all]
        unit = (placement,) if len(gang) > placement.minimum else tuple(gang)
        ask = choice.ask
        if any(each.id not in choice.victims or each.work == ask.work.id for each in unit):
            return None
        count = Counter(each.queue for each in unit)
        if any(taken.of_queue[queue] + more > self._left[queue] for queue, more in count.items()):
            return None
        if all(preempts(ask.work.tier, each.tier) for each in unit):
            return unit
        together = _all_of([tuple(taken.all.values())])
        for each in unit:
            if choice.quotas is None or not (
                preempts(ask.work.tier, each.tier) or self._borrowed(each, ask, choice.quotas, together)
            ):
                return None
            together.add((each,))
        return unit

    def _gang(self, work: str) -> list[Placement]:
        there = self._present.of_work.get(work, {})
        return [each for name, each in sorted(there.items()) if name not in self._holds.leaving]

    def _price(self, taken: Taken) -> tuple[object, ...]:
        there = taken.all.values()
        return (
            max((each.tier.rank, each.priority) for each in there),
            len(there),
            sum(each.lost_s(self._now) for each in there),
        )


def _simple(ask: Ask) -> bool:
    return len(ask.members) == 1 and not ask.members[0][1].neighbours and not ask.members[0][1].spreads


def _all_of(units: Iterable[Unit]) -> Taken:
    taken = Taken()
    for unit in units:
        taken.add(unit)
    return taken
