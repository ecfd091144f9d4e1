"""FGD: where least GPU capacity is made useless to what typically comes, in coarse steps and then one fixed order.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX
ATC 2023: score = floor(100 * sigmoid(decrease of F / 1000)), F as in demand.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import CPU, WHOLE, Columns, Ints, numbers, summed
from skerry.scheduler.demand import WEIGHT, WIDTH, Tables
from skerry.scheduler.request import Request
from skerry.scheduler.scores.scorer import SCORE_MAX, Scorer

STEPS = 100
WORST = -(2**60)


def decrease(columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
    """Of F, in thousandths of a device times WEIGHT, with the best of the devices. Only for rows where it fits."""
    room = columns.device_room.take(rows, axis=1)
    cpu = columns.room[CPU].take(rows)
    if request.bonus is not None:
        cpu += request.bonus[CPU].take(rows)
    kind = columns.node_kind.take(rows) * tables.level_count
    before, after = kind + tables.level(cpu), kind + tables.level(cpu - request.shape.cpu_milli)
    whole: Ints = columns.room[WHOLE].take(rows)
    at_before, at = before * WIDTH, after * WIDTH
    if columns.mixed:
        kinds = np.maximum(columns.device_kind.take(rows, axis=1), 0) * tables.level_count
        shift = (kinds - kind) * WIDTH
        at_before, at = at_before + shift, at + shift
    several_at = after * tables.whole_width + whole
    used_before: Ints = summed(tables.single.take(at_before + room))
    used_before += tables.several.take(before * tables.whole_width + whole)
    now = tables.single.take(at + room)
    used = summed(now) + tables.several.take(several_at)
    if request.gpus == 1:
        used += np.maximum.reduce(change_by_device(tables, request, room, now, at, several_at), axis=0)
    elif request.gpus:
        used -= request.gpus * tables.single.take(after * WIDTH + GPU_MILLI)
        used += tables.several.take(several_at - request.gpus) - tables.several.take(several_at)
    return request.gpus * request.milli * WEIGHT - used_before + used


def decrease_at(columns: Columns, tables: Tables, request: Request, row: int) -> int:
    """The same of one row."""
    cpu = columns.room.item(CPU, row)
    if request.bonus is not None:
        cpu += request.bonus.item(CPU, row)
    kind = columns.kind_list[row] * tables.level_count
    before = kind + bisect_right(tables.level_list, cpu)
    after = kind + bisect_right(tables.level_list, cpu - request.shape.cpu_milli)
    single, several = tables.single_list, tables.several_list
    free = columns.device_free[row]
    whole = free.count(GPU_MILLI)
    at_before, at, several_at = before * WIDTH, after * WIDTH, after * tables.whole_width + whole
    fewer = several[several_at - 1] - several[several_at] if whole else 0
    used = several[several_at] - several[before * tables.whole_width + whole]
    best = WORST
    kinds = columns.kinds_of[row] if columns.mixed else None
    for index, room in enumerate(free):
        if room:
            if kinds is not None:
                shift = (kinds[index] - kinds[0]) * tables.level_count
                at_before, at = (before + shift) * WIDTH, (after + shift) * WIDTH
            now = single[at + room]
            used += now - single[at_before + room]
            if room >= request.milli:
                change = single[at + room - request.milli] - now + (fewer if room == GPU_MILLI else 0)
                best = max(best, change)
    if request.gpus == 1:
        used += best
    elif request.gpus:
        used -= request.gpus * single[after * WIDTH + GPU_MILLI]
        used += several[several_at - request.gpus] - several[several_at]
    return request.gpus * request.milli * WEIGHT + used


def change_by_device(tables: Tables, request: Request, room: Ints, now: Ints, at: Ints, several_at: Ints) -> Ints:
    """How much of use there would be more (less than 0) if a device gave the share."""
    left = room - request.milli
    change = tables.single.take(at + np.maximum(left, 0)) - now
    fewer = tables.several.take(np.maximum(several_at - 1, 0)) - tables.several.take(several_at)
    change += (room == GPU_MILLI) * fewer
    np.copyto(change, WORST, where=left < 0)
    return change


class Fragmentation(Scorer):
    name = "fragmentation"
    one_by_one = True
    step = SCORE_MAX // STEPS

    def __init__(self) -> None:
        self._bounds: Ints = np.array(
            [math.ceil(WEIGHT * 1000 * math.log(score / (STEPS - score))) for score in range(1, STEPS)], np.int64
        )
        self._bound_list = numbers(self._bounds)

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        return np.searchsorted(self._bounds, decrease(columns, tables, request, rows), side="right") * self.step

    def score(self, columns: Columns, tables: Tables, request: Request, row: int) -> int:
        return bisect_right(self._bound_list, decrease_at(columns, tables, request, row)) * self.step

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        return best_device(columns, tables, request, row, usable)


def best_device(columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
    """The one whose share costs least use; then the fullest."""
    if len(usable) == 1:
        return usable[0]
    free = columns.device_free[row]
    cpu = columns.room.item(CPU, row) - request.shape.cpu_milli
    if request.bonus is not None:
        cpu += request.bonus.item(CPU, row)
    level = bisect_right(tables.level_list, cpu)
    whole = free.count(GPU_MILLI)
    several_at = (columns.kind_list[row] * tables.level_count + level) * tables.whole_width + whole
    fewer = tables.several_list[several_at - 1] - tables.several_list[several_at] if whole else 0
    kinds = columns.kinds_of[row]
    single = tables.single_list
    chosen, best = usable[0], (WORST, 0)
    for index in usable:
        room = free[index]
        at = (kinds[index] * tables.level_count + level) * WIDTH + room
        change = single[at - request.milli] - single[at] + (fewer if room == GPU_MILLI else 0)
        if (change, -room) > best:
            chosen, best = index, (change, -room)
    return chosen
