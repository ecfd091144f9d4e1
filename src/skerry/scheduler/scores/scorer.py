"""What every way of choosing among nodes offers."""

from __future__ import annotations

from typing import Protocol

from skerry.scheduler.columns import Columns, Ints
from skerry.scheduler.demand import Tables
from skerry.scheduler.request import Request

SCORE_MAX = 1000
"""Scores are 0 to this; wishes about neighbours and images are added in larger and smaller steps."""


class Scorer(Protocol):
    name: str
    step: int
    """What one step of the score is worth: having its image there already is worth one."""

    one_by_one: bool = False
    """It is quicker for few rows to be asked for the score of each."""

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        """Of rows where it fits; more is better."""
        ...

    def score(self, columns: Columns, tables: Tables, request: Request, row: int) -> int:
        """The same of one."""
        return int(self.scores(columns, tables, request, columns.every[row : row + 1])[0])

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        """Which of these devices of a node gives a share."""
        ...
