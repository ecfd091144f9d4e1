"""The openb trace: 1,213 machines with 6,212 GPUs and what was asked of them, and the variants made from it."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from skerry.model.resources import GPU_MILLI
from skerry.scheduler.shape import Shape
from skerry.scheduler.snapshot import Node
from skerry.simulate.traces.openb import read_nodes, read_shapes

FOLDER = Path(__file__).with_name("data") / "openb"
NODES = "openb_node_list_gpu_node.csv"


class Trace(NamedTuple):
    nodes: list[Node]
    pods: list[Shape]
    """Equal ones are the same object."""

    @property
    def gpu_milli(self) -> int:
        return sum(len(node.devices) for node in self.nodes) * GPU_MILLI


def read(folder: Path, variant: str) -> Trace:
    pods = f"openb_pod_list_{variant}.csv"
    known: dict[Shape, Shape] = {}
    shapes = [known.setdefault(shape, shape) for shape in read_shapes(pods, _lines(folder / pods))]
    return Trace(list(read_nodes(NODES, _lines(folder / NODES))), shapes)


def _lines(path: Path) -> list[str]:
    packed = path.with_name(f"{path.name}.gz")
    text = path.read_text() if path.exists() else gzip.decompress(packed.read_bytes()).decode()
    return text.splitlines()


def arrivals(trace: Trace, seed: int, until: float) -> Iterator[Shape]:
    """All pods of the trace in random order, then pods drawn from it, until the GPUs asked for are `until` times those
    that there are. The method of the FGD artifact."""
    draw = random.Random(seed)
    asked = 0
    first = list(trace.pods)
    draw.shuffle(first)
    while asked < until * trace.gpu_milli:
        pod = first.pop() if first else draw.choice(trace.pods)
        asked += pod.gpu_count * pod.gpu_milli
        yield pod


def counted(trace: Trace) -> Counter[Shape]:
    return Counter(trace.pods)


def enlarged(trace: Trace, nodes: int) -> list[Node]:
    """So many nodes, in the proportions of the trace."""
    chosen = (
        [trace.nodes[number * len(trace.nodes) // nodes] for number in range(nodes)]
        if nodes < 1213
        else [trace.nodes[number % len(trace.nodes)] for number in range(nodes)]
    )
    return [
        Node(id=f"node-{number:05}", cpu_milli=one.cpu_milli, memory_bytes=one.memory_bytes, devices=one.devices)
        for number, one in enumerate(chosen)
    ]
