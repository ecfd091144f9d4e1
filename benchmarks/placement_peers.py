"""The rules that FGD was compared with, by their definitions in its artifact, so that one script runs them all.

github.com/hkust-adsl/kubernetes-scheduler-simulator (Apache-2.0), Weng et al., USENIX ATC 2023.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.columns import CPU, Columns, Ints
from skerry.scheduler.demand import Tables
from skerry.scheduler.request import Request
from skerry.scheduler.scores.scorer import Scorer


class Peer(Scorer):
    name = ""
    step = 1

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        raise NotImplementedError

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        """The fullest that has room."""
        room = columns.device_free[row]
        return min(usable, key=lambda index: (room[index], index))

    def placed(self, node: str, asked: int) -> None:
        """Told after each decision."""


class Random(Peer):
    name = "random"

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._choose = random.Random(seed)

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        return self._draw.integers(0, 2**30, len(rows))

    def device(self, columns: Columns, tables: Tables, request: Request, row: int, usable: list[int]) -> int:
        return self._choose.choice(usable)


class BestFit(Peer):
    """What is left of cores and devices, by the largest node's, half and half."""

    name = "best-fit"

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        cpu_max = columns.capacity[CPU].max()
        gpu_max = columns.width * GPU_MILLI
        cpu = (columns.room[CPU, rows] - request.shape.cpu_milli) / cpu_max
        gpu = (columns.device_room[:, rows].sum(axis=0) - request.gpus * request.milli) / gpu_max
        return (100 * (1 - (cpu + gpu) / 2)).astype(np.int64)


class DotProduct(Peer):
    name = "dot-product"

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        cpu_max = columns.capacity[CPU].max()
        gpu_max = columns.width * GPU_MILLI
        cpu = columns.room[CPU, rows] / cpu_max * (request.shape.cpu_milli / cpu_max)
        gpu = columns.device_room[:, rows].sum(axis=0) / gpu_max * (request.gpus * request.milli / gpu_max)
        return (100 * (1 - (cpu + gpu) / 2)).astype(np.int64)


class Packing(Peer):
    """Devices that are shared already, then idle ones of nodes that are used, then nodes that are not."""

    name = "packing"

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        if not request.gpus:
            return np.zeros(len(rows), np.int64)
        room = columns.device_room[:, rows]
        whole = (room == GPU_MILLI).sum(axis=0)
        fitting = np.sort(np.where(room >= request.milli, room, 2 * GPU_MILLI), axis=0)[: request.gpus]
        idle = (fitting == GPU_MILLI).sum(axis=0)
        shared = np.maximum(100 - (fitting * 100 // GPU_MILLI).sum(axis=0) // 10, 50)
        used = np.maximum(50 - idle, 33)
        return np.where(whole == columns.device_count[rows], 33 - whole, np.where(idle > 0, used, shared))


class Clustering(Peer):
    """Beside others that ask for the same."""

    name = "clustering"

    def __init__(self) -> None:
        self._asked: dict[str, set[int]] = defaultdict(set)

    def scores(self, columns: Columns, tables: Tables, request: Request, rows: Ints) -> Ints:
        if not request.gpus:
            return np.zeros(len(rows), np.int64)
        gpu_max = columns.width * GPU_MILLI
        filled = 25 * (gpu_max - columns.device_room[:, rows].sum(axis=0)) // gpu_max
        asked = [self._asked[columns.nodes[row].id] for row in rows.tolist()]
        wanted = _sort(request.gpus * request.milli)
        base = [(75 if len(each) == 1 else 50) if wanted in each else 0 if each else 25 for each in asked]
        return filled + np.array(base, np.int64)

    def placed(self, node: str, asked: int) -> None:
        if asked:
            self._asked[node].add(_sort(asked))


def _sort(asked: int) -> int:
    """All shares are of one sort, and so are all who ask for so many devices."""
    return asked // GPU_MILLI
