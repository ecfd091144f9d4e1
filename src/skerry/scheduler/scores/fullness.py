"""How full a node would be: pack takes the fullest, spread the emptiest."""

from __future__ import annotations

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import CPU, MEMORY, Columns, Ints, summed
from skerry.scheduler.demand import Tables
from skerry.scheduler.fit import room_for
from skerry.scheduler.request import Request
from skerry.scheduler.scores.scorer import SCORE_MAX, Scorer


def fullness(columns: Columns, request: Request, rows: Ints) -> Ints:
    """The mean over cores, memory and devices, once the request is there, 0 to SCORE_MAX."""
    capacity = columns.capacity.take(rows, axis=1)
    if request.bonus is not None:
        capacity = capacity + request.bonus.take(rows, axis=1)
    left = room_for(columns, request, rows) - request.need[:, None]
    total = np.zeros(len(rows), np.int64)
    for column in (CPU, MEMORY):
        total += SCORE_MAX - left[column] * SCORE_MAX // np.maximum(capacity[column], 1)
    devices = columns.device_count.take(rows)
    free = summed(columns.device_room.take(rows, axis=1)) - request.gpus * request.milli
    used = SCORE_MAX - free * SCORE_MAX // (np.maximum(devices, 1) * GPU_MILLI)
    parts = 2 + (devices > 0)
    return np.clip((total + np.where(devices > 0, used, 0)) // parts, 0, SCORE_MAX)


class Pack(Scorer):
    name = "pack"
    step = 20

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        return fullness(columns, request, rows)

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        room = columns.device_free[row]
        return min(usable, key=lambda index: (room[index], index))


class Spread(Scorer):
    name = "spread"
    step = 20

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        return SCORE_MAX - fullness(columns, request, rows)

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        room = columns.device_free[row]
        return max(usable, key=lambda index: (room[index], -index))
