"""The nodes of a queue, or of one place within it."""

from __future__ import annotations

from skerry.scheduler.columns import Columns, Ints, Mask, numbers
from skerry.scheduler.request import terms_pass
from skerry.scheduler.shape import Term
from skerry.scheduler.snapshot import Amounts


class Pool:
    """Asked of a cell, which keeps it up to date."""

    def __init__(self, terms: tuple[Term, ...], columns: Columns) -> None:
        self.terms = terms
        self.look(columns)

    def look(self, columns: Columns) -> None:
        self.mask: Mask = terms_pass(self.terms, columns, columns.every)
        self.rows: Ints = self.mask.nonzero()[0]
        self.nodes = len(self.rows)
        self.totals: Amounts | None = None
        """What they have, once it was asked for."""
        self.accepting = sum(columns.nodes[row].accepts for row in numbers(self.rows))
