"""Which devices of a node a request gets."""

from __future__ import annotations

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import Columns, Devices
from skerry.scheduler.demand import Tables
from skerry.scheduler.fit import devices_at
from skerry.scheduler.request import Request
from skerry.scheduler.scores.scorer import Scorer


def choose(columns: Columns, tables: Tables, scorer: Scorer, request: Request, row: int) -> Devices:
    """Call only where it fits."""
    if not request.gpus:
        return ()
    usable = devices_at(columns, request, row)
    if request.gpus == 1:
        chosen = [scorer.device(columns, tables, request, row, usable)]
    else:
        chosen = linked(columns, row, usable, request.gpus)
    memory = columns.nodes[row].devices
    return tuple((index, request.milli, _bytes(request, memory[index].memory_bytes)) for index in chosen)


def _bytes(request: Request, memory_bytes: int) -> int:
    if not memory_bytes:
        return 0
    return request.shape.gpu_memory_bytes or memory_bytes * request.milli // GPU_MILLI


def linked(columns: Columns, row: int, usable: list[int], count: int) -> list[int]:
    """Of one kind and one link group if one has so many free, the smallest such; else of the fullest groups."""
    devices = columns.nodes[row].devices
    groups: dict[tuple[str, int], list[int]] = {}
    for index in usable:
        groups.setdefault((devices[index].kind, devices[index].link), []).append(index)
    enough = [members for members in groups.values() if len(members) >= count]
    if enough:
        return min(enough, key=lambda members: (len(members), members[0]))[:count]
    by_size = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [index for _, members in by_size for index in members][:count]
