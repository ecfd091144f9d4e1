"""Where a request fits now."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import CPU, MEMORY, Columns, Ints, Mask, numbers, summed
from skerry.scheduler.request import Request

SANDBOXES_MAX = 2**31
"""On one node, of those that ask for nothing."""


def usable_devices(columns: Columns, request: Request, rows: Ints) -> Mask:
    """Devices, any one of which the request could take its part of."""
    usable = columns.device_room.take(rows, axis=1) >= request.milli
    if request.device_ok is not None:
        usable &= request.device_ok.take(rows, axis=1)
    if columns.memory_matters or request.shape.gpu_memory_bytes:
        usable &= columns.device_memory_room.take(rows, axis=1) >= request.device_need(columns, rows)
    return usable


def any_device_does(columns: Columns, request: Request) -> bool:
    """Whether a device's free thousandths are all that there is to look at."""
    return request.device_ok is None and not columns.memory_matters and not request.shape.gpu_memory_bytes


def room_for(columns: Columns, request: Request, rows: Ints) -> Ints:
    room = columns.room.take(rows, axis=1)
    if request.bonus is not None:
        room += request.bonus.take(rows, axis=1)
    return room


def fits(columns: Columns, request: Request, rows: Ints) -> Mask:
    """Of these rows; where others are is not looked at."""
    ok = np.logical_and.reduce(room_for(columns, request, rows) >= request.floor, axis=0)
    ok &= request.mask.take(rows)
    if request.gpus and not any_device_does(columns, request):
        ok &= np.sum(usable_devices(columns, request, rows), axis=0) >= request.gpus
    return ok


def fitting(columns: Columns, request: Request, rows: Iterable[int]) -> list[int]:
    """Those of a few rows where it fits."""
    room, mask, asked, bonus = columns.room.item, request.mask.item, request.asked, request.bonus
    by_device = request.gpus > 0 and not any_device_does(columns, request)
    good: list[int] = []
    for row in rows:
        if mask(row):
            for line, amount in asked:
                if room(line, row) < amount and (bonus is None or room(line, row) + bonus.item(line, row) < amount):
                    break
            else:
                if not by_device or len(devices_at(columns, request, row)) >= request.gpus:
                    good.append(row)
    return good


def devices_at(columns: Columns, request: Request, row: int) -> list[int]:
    """Of a node, those any one of which the request could take its part of."""
    if any_device_does(columns, request):
        milli = request.milli
        return [index for index, room in enumerate(columns.device_free[row]) if room >= milli]
    return numbers(usable_devices(columns, request, columns.every[row : row + 1])[:, 0].nonzero()[0])


def how_many(columns: Columns, request: Request, rows: Ints) -> Ints:
    """Requests like this one that there is room for on each of these rows, if they keep out of each other's way only
    by what they take."""
    asked = (request.need > 0).nonzero()[0]
    room = room_for(columns, request, rows).take(asked, axis=0)
    found: Ints = np.minimum.reduce(room // request.need.take(asked)[:, None], axis=0)
    if request.gpus:
        np.minimum(found, _devices_for(columns, request, rows), out=found)
    found *= request.mask.take(rows)
    return np.maximum(found, 0, out=found)


Freed = tuple[Ints, Ints, Ints]
"""Cores, memory and thousandths of devices, of each of some rows."""


def at_most(columns: Columns, request: Request, rows: Ints, freed: Freed | None) -> Ints:
    """Requests like this one that there can be room for on each of these rows, once so much is given back; None: all of
    it. Looks at no single device, so there may be fewer."""
    room = columns.capacity.take(rows, axis=1)
    devices = columns.device_count.take(rows) * GPU_MILLI
    if freed is not None:
        room = columns.room.take(rows, axis=1)
        devices = summed(columns.device_room.take(rows, axis=1)) + freed[2]
        room[CPU] += freed[0]
        room[MEMORY] += freed[1]
    if request.bonus is not None:
        room += request.bonus.take(rows, axis=1)
    lines = [line for line in (CPU, MEMORY) if request.need[line] > 0]
    found: Ints = np.full(len(rows), SANDBOXES_MAX, np.int64)
    for line in lines:
        np.minimum(found, room[line] // request.need[line], out=found)
    if request.gpus:
        np.minimum(found, devices // (request.gpus * request.milli), out=found)
    found *= request.mask.take(rows)
    return np.maximum(found, 0, out=found)


def _devices_for(columns: Columns, request: Request, rows: Ints) -> Ints:
    if request.gpus > 1:
        return np.sum(usable_devices(columns, request, rows), axis=0) // request.gpus
    parts = columns.device_room.take(rows, axis=1) // request.milli
    if request.device_ok is not None:
        parts *= request.device_ok.take(rows, axis=1)
    if columns.memory_matters or request.shape.gpu_memory_bytes:
        need = np.maximum(request.device_need(columns, rows), 1)
        np.minimum(parts, np.maximum(columns.device_memory_room.take(rows, axis=1) // need, 0), out=parts)
    return np.add.reduce(parts, axis=0)


def in_one_group(columns: Columns, request: Request, rows: Ints) -> Mask:
    """Where all its devices can share a fast link."""
    usable = usable_devices(columns, request, rows)
    group = columns.device_group.take(rows, axis=1)
    found = np.zeros(len(rows), np.bool_)
    for number in range(columns.groups):
        found |= np.sum(usable & (group == number), axis=0) >= request.gpus
    return found
