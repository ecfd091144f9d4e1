"""How much of the free accelerators is of no use to what typically comes: F of Weng et al., "Beware of Fragmentation:
Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node
from skerry.simulate.books import Books

TYPICAL = 0.95
"""Of what comes is typical: the commonest shapes that make up so much."""


class Fragmentation:
    def __init__(self, shapes: Iterable[Shape], nodes: Sequence[Node]) -> None:
        counts = Counter(shapes).most_common()
        wanted = TYPICAL * sum(count for _, count in counts)
        self._typical: list[tuple[Shape, int]] = []
        for shape, count in counts:
            if wanted <= 0:
                break
            self._typical.append((shape, count))
            wanted -= count
        self._kinds = np.array([node.devices[0].kind if node.devices else "" for node in nodes])
        self._devices = max((len(node.devices) for node in nodes), default=0)

    def share(self, books: Books) -> float | None:
        """Of what is free of the accelerators; None: nothing is."""
        free = np.zeros((len(books.nodes), self._devices), dtype=np.int64)
        for at, gpus in enumerate(books.gpus_free):
            free[at, : len(gpus)] = gpus
        total = int(free.sum())
        if not total:
            return None
        cpu, memory = np.array(books.cpu_free), np.array(books.memory_free)
        of_node: NDArray[np.int64] = free.sum(axis=1)
        lost = 0.0
        for shape, count in self._typical:
            if not shape.gpu_count:
                lost += count * total
                continue
            least = GPU_MILLI if shape.gpu_count > 1 else shape.gpu_milli
            useful = free >= least
            fits = (cpu >= shape.cpu_milli) & (memory >= shape.memory_bytes)
            fits &= useful.sum(axis=1) >= shape.gpu_count
            if shape.gpu_kinds:
                fits &= np.isin(self._kinds, list(shape.gpu_kinds))
            useless: NDArray[np.int64] = np.where(useful, 0, free).sum(axis=1)
            lost += count * int(np.where(fits, useless, of_node).sum())
        return lost / (sum(count for _, count in self._typical) * total)
