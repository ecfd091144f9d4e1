"""What no machine could ever have, told to who asks for it: from memory, since to read ten thousand takes long."""

from __future__ import annotations

from skerry.control.reconcile.ledger.mirror import Mirror
from skerry.control.reconcile.ledger.shapes import alone
from skerry.control.reconcile.ledger.words import with_names
from skerry.model.resources import Selector
from skerry.model.sandbox import SandboxSpec
from skerry.scheduler.cell import Cell
from skerry.scheduler.decide.refusal import refusal
from skerry.scheduler.rules import terms_of


class Refusals:
    """A cell of its own, of machines only: the one that places are given from is not to be asked while a thread decides
    on it."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._seen = 0
        self._cell = Cell(())

    def why_never(self, spec: SandboxSpec, nodes: Selector) -> tuple[str, str] | None:
        """(field, sentence); None where a machine of these could have it, or where none is known (yet)."""
        mirror = self._mirror
        if self._seen != mirror.machines_changed:
            self._seen = mirror.machines_changed
            self._cell.sync(tuple(mirror.machines.values()), ())
        pool = self._cell.pool(terms_of(nodes)) if nodes else None
        shape = alone(spec.cpu, spec.memory, spec, spec.placement)
        if self._cell.could_ever(shape, pool):
            return None
        found = refusal(shape, self._cell.nodes_of(pool))
        return None if found is None else (found.field, with_names(found.say, mirror))
