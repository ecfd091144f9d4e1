"""The scheduler's own columns and sums, kept between two passes: only what has moved is counted again."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.scheduler.cell import Cell
from skerry.scheduler.ledger import Ledger
from skerry.scheduler.plan import Start
from skerry.scheduler.snapshot import Placement


class World:
    def __init__(self) -> None:
        self._placements: dict[str, Placement] = {}
        """As they are counted in both."""
        self._given: dict[str, tuple[str, tuple[tuple[int, int, int], ...]]] = {}
        """What a plan has counted and the mirror has not said yet."""
        self._planning = False
        """A plan has been begun, and has not said what became of it: nobody knows what it has counted."""
        self.cell = Cell(())
        self.ledger = Ledger(())

    def follow(self, mirror: Mirror) -> list[str]:
        """Makes both agree with the mirror, and takes what it says has moved. Told: where they had gone astray, which
        is looked for when the mirror was read anew."""
        if self._planning:
            self._planning = False
            self.cell = Cell(())
            mirror.nodes_changed = True
        astray: list[str] = []
        if not mirror.nodes_changed:
            self._catch_up(mirror)
            if mirror.is_anew:
                astray = self._astray(mirror)
        if mirror.nodes_changed or mirror.is_anew:
            mirror.nodes_changed = False
            self.cell.sync(tuple(mirror.nodes.values()), mirror.placements.values())
            self.ledger = Ledger(mirror.nodes.values(), mirror.placements.values())
            self._placements = dict(mirror.placements)
            self._given.clear()
        mirror.moved.clear()
        return astray

    def _catch_up(self, mirror: Mirror) -> None:
        for sandbox, placement in mirror.moved.items():
            if placement is None:
                self.forget([sandbox])
            elif self._placements.get(sandbox) != placement:
                given = self._given.pop(sandbox, None) == (placement.node, placement.devices)
                self._placements[sandbox] = placement
                if not given:
                    self.cell.take(placement)
                    self.ledger.add(placement)
        # What was given was written before the mirror was read. It may have been lost again by then.
        self.forget([sandbox for sandbox in self._given if sandbox not in mirror.placements])

    def _astray(self, mirror: Mirror) -> list[str]:
        """Where what was kept differs from what is counted anew."""
        there = {each.id: (each.node, each.devices) for each in mirror.placements.values()}
        kept = {seat.id: (seat.node, seat.devices) for seat in self.cell.seats()}
        found = [f"sandbox {each} was counted as on {kept[each][0]}" for each in kept if there.get(each) != kept[each]]
        found += [f"sandbox {each} was not counted" for each in there if each not in kept]
        fresh = Ledger(mirror.nodes.values(), mirror.placements.values())
        return sorted(found) + self.cell.miscounted() + self.ledger.unlike(fresh)

    def begin(self) -> None:
        """A plan is about to be made on these columns."""
        self._planning = True

    def gave(self, starts: Iterable[Start]) -> None:
        """By a plan that was made on these columns, and has counted them."""
        self._given.update((start.id, (start.node, start.devices)) for start in starts)

    def done(self) -> None:
        """What the plan gave is known, and what it did not give is forgotten."""
        self._planning = False

    def forget(self, sandboxes: Iterable[str]) -> None:
        """Of what has no place: also where a plan gave one and somebody else was first."""
        for sandbox in sandboxes:
            self._placements.pop(sandbox, None)
            self._given.pop(sandbox, None)
            self.cell.free(sandbox)
            self.ledger.remove(sandbox)
