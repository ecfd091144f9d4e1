"""Ours: FGD in wider steps, with work that needs no device kept off those that are idle."""

from __future__ import annotations

import numpy as np

from skerry.scheduler.columns import Columns, Ints, summed
from skerry.scheduler.demand import WEIGHT, Tables
from skerry.scheduler.request import Request
from skerry.scheduler.scores.fragmentation import best_device, decrease, decrease_at
from skerry.scheduler.scores.scorer import SCORE_MAX, Scorer

STEP = 80 * WEIGHT
"""80 thousandths of a device: what differs by less is taken to be the same."""


class Auto(Scorer):
    name = "auto"
    one_by_one = True
    step = 10

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        if not request.gpus:
            idle = summed(columns.device_room.take(rows, axis=1))
            return SCORE_MAX - np.minimum(idle // 100, 90) * self.step
        gained = decrease(columns, tables, request, rows) // STEP + 50
        return np.maximum(np.minimum(gained, 100), 0) * self.step

    def score(self, columns: Columns, tables: Tables, request: Request, row: int) -> int:
        if not request.gpus:
            return SCORE_MAX - min(sum(columns.device_free[row]) // 100, 90) * self.step
        gained = decrease_at(columns, tables, request, row) // STEP + 50
        return max(min(gained, 100), 0) * self.step

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        return best_device(columns, tables, request, row, usable)
