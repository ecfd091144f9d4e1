"""Why something fits nowhere: how many nodes each filter took out, and which come nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import Columns, Ints, Mask, numbers
from skerry.scheduler.fit import fits, room_for, usable_devices
from skerry.scheduler.plan import Fallen, Near
from skerry.scheduler.request import Request, accepting, fixed_filters


def fallen(columns: Columns, request: Request, rows: Ints, others: tuple[Mask, Mask]) -> tuple[Fallen, ...]:
    """Each node is counted at the first filter that it does not pass; those that pass all are not counted."""
    counts: Counter[str] = Counter()
    left = np.ones(len(rows), np.bool_)
    refusing = ~accepting(columns, rows)
    for row in numbers(rows[refusing]):
        counts[columns.nodes[row].why_not or "cordoned"] += 1
    left &= ~refusing
    for name, passed in _filters(columns, request, rows, others):
        out = int((left & ~passed).sum())
        if out:
            counts[name] += out
        left &= passed
    return tuple(Fallen(name, count) for name, count in counts.items())


def _filters(columns: Columns, request: Request, rows: Ints, others: tuple[Mask, Mask]) -> Iterator[tuple[str, Mask]]:
    yield from fixed_filters(request, columns, rows)
    room = room_for(columns, request, rows)
    large = columns.capacity[:, rows] < request.floor
    for column, name in enumerate(columns.names):
        if request.need[column]:
            yield name, ~large[column] & (room[column] >= request.need[column])
    if request.unknown_extras:
        yield "extras", np.zeros(len(rows), np.bool_)
    if request.gpus:
        if request.shape.gpu_memory_bytes:
            yield "gpu-memory", request.whole(columns, rows)
        enough = columns.device_room.take(rows, axis=1) >= request.milli
        enough &= request.kind_ok(columns, rows)
        yield "gpu", np.sum(enough, axis=0) >= request.gpus
        yield "gpu-memory", np.sum(usable_devices(columns, request, rows), axis=0) >= request.gpus
    yield "affinity", others[0][rows]
    yield "spread", others[1][rows]


def nearest(columns: Columns, request: Request, rows: Ints, count: int) -> tuple[Near, ...]:
    """Of nodes that could have it were they emptier, those that lack least of what they have."""
    rows = rows[request.mask[rows]]
    rows = rows[~fits(columns, request, rows)]
    if not len(rows):
        return ()
    need = request.need[:, None]
    short = np.where(need > 0, need - room_for(columns, request, rows), 0).clip(min=0)
    lacking = np.sum(short / np.maximum(columns.capacity[:, rows], 1), axis=0)
    devices = _devices_short(columns, request, rows)
    lacking += devices / (np.maximum(columns.device_count[rows], 1) * GPU_MILLI)
    found: list[Near] = []
    for at in np.argsort(lacking, kind="stable")[:count].tolist():
        missing = [(name, int(short[column, at])) for column, name in enumerate(columns.names) if short[column, at]]
        if devices[at]:
            missing.append(("gpu", int(devices[at])))
        found.append(Near(columns.nodes[int(rows[at])].id, tuple(missing)))
    return tuple(found)


def _devices_short(columns: Columns, request: Request, rows: Ints) -> Ints:
    """Thousandths that would have to come free on the devices that have most."""
    if not request.gpus:
        return np.zeros(len(rows), np.int64)
    room = np.where(request.kind_ok(columns, rows), columns.device_room.take(rows, axis=1), 0)
    most = -np.sort(-room, axis=0)[: request.gpus]
    return np.sum((request.milli - most).clip(min=0), axis=0)
