"""How many places a second the scheduler finds, by the number of nodes, mostly full, with requests of all kinds mixed.

Times are those of the processor that one core gave, so that who else uses the machine counts less. The pure half is
the scheduler's core: one sandbox leaves, one that asks for something else gets a place, at nine tenths of all GPUs.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace

import openb
from harness import Table

from skerry.model.queue import Strategy
from skerry.scheduler.cell import Cell
from skerry.scheduler.shape import Shape

FULL = 0.9
PUBLISHED = {"Volcano": 12, "YARN": 1_000, "Gödel": 1_950}
"""Placements a second of whole systems at 10,000 nodes (Gödel, SoCC 2023)."""
GANG = 512
GANG_NODES = 4000
"""With fewer, a tenth of the devices is too little for the gang."""
CLASSES = 50
PENDING = 10_000
TRIES = 5


class Churn:
    """A cell that is kept nine tenths full, one leaving and one coming."""

    def __init__(self, trace: openb.Trace, nodes: int, strategy: Strategy) -> None:
        self.cell = Cell(openb.enlarged(trace, nodes))
        self._pods = trace.pods
        self._strategy = strategy
        self._draw = random.Random(42)
        self._full = FULL * sum(len(node.devices) for node in openb.enlarged(trace, nodes)) * 1000
        self._given = 0
        self._here: list[tuple[str, int]] = []
        self.cell.expect(openb.counted(trace))

    def fill(self) -> float:
        """Places a second, from empty."""
        began = time.process_time()
        while self._given < self._full:
            self._put(self._draw.choice(self._pods))
        return len(self._here) / (time.process_time() - began)

    def _put(self, pod: Shape) -> None:
        seat = self.cell.put(pod, strategy=self._strategy)
        if seat is not None:
            milli = pod.gpu_count * pod.gpu_milli
            self._here.append((seat.id, milli))
            self._given += milli

    def _leaving(self) -> str:
        number = self._draw.randrange(len(self._here))
        self._here[number], self._here[-1] = self._here[-1], self._here[number]
        name, milli = self._here.pop()
        self._given -= milli
        return name

    def decide(self) -> None:
        """One leaves and one comes."""
        self.cell.free(self._leaving())
        self._put(self._draw.choice(self._pods))
        while self._given > self._full:
            self.cell.free(self._leaving())

    def rate(self, decisions: int) -> float:
        """Decisions a second, with what it costs to draw by lot."""
        began = time.process_time()
        for _ in range(decisions):
            self.decide()
        return decisions / (time.process_time() - began)

    def each(self, decisions: int) -> list[float]:
        """Microseconds of the processor that each took, about one of them for asking."""
        taken: list[float] = []
        for _ in range(decisions):
            began = time.process_time_ns()
            self.decide()
            taken.append((time.process_time_ns() - began) / 1000)
        return taken


def pure(table: Table, trace: openb.Trace, decisions: int, sizes: list[int]) -> Churn:
    """The best of a few rates, and what single decisions took beside them."""
    rates: dict[int, float] = {}
    churn = Churn(trace, 100, Strategy.AUTO)
    for nodes in sizes:
        churn = Churn(trace, nodes, Strategy.AUTO)
        filled = churn.fill()
        churn.rate(decisions // 4)
        gc.collect()
        taken: list[float] = []
        for _ in range(TRIES):
            rates[nodes] = max(rates.get(nodes, 0.0), churn.rate(decisions // TRIES))
            taken += churn.each(decisions // TRIES)
        taken.sort()
        peer = (PUBLISHED["Gödel"], "Gödel, whole system") if nodes == 10_000 else (None, None)
        table.add(f"scheduler_throughput/pure_{nodes}", rates[nodes], *peer, "placements/s")
        table.add(f"scheduler_throughput/fill_{nodes}", filled, None, None, "placements/s")
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            at = taken[int(len(taken) * share)]
            table.add(f"scheduler_throughput/pure_{nodes}_{name}_us", at, None, None, "us")
    if {1000, 10_000} <= rates.keys():
        table.add("scheduler_throughput/growth", rates[1000] / rates[10_000], None, None, "x per decision")
    return churn


def nothing_fits(table: Table, churn: Churn) -> None:
    """A pass over ten thousand that wait, in fifty classes none of which fits anywhere, after one node has changed."""
    cell = churn.cell
    classes = [Shape(cpu_milli=200_000 + number, memory_bytes=2**30, gpu_count=8) for number in range(CLASSES)]

    def each() -> None:
        for number in range(PENDING):
            cell.put(classes[number % CLASSES], strategy=Strategy.AUTO)

    each()
    best = min(_after_a_change(churn, each) for _ in range(TRIES))
    table.add("scheduler_throughput/nothing_fits_ms", best, None, None, "ms")


def _after_a_change(churn: Churn, work: Callable[[], None]) -> float:
    churn.rate(1)
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def gang(table: Table, trace: openb.Trace, nodes: int) -> None:
    """A gang of 512 that ask a whole GPU each: all of them placed, then all of it undone."""
    churn = Churn(trace, nodes, Strategy.AUTO)
    churn.fill()
    cell = churn.cell
    member = Shape(cpu_milli=4000, memory_bytes=8 * 2**30, gpu_count=1)
    placing: list[float] = []
    undoing: list[float] = []
    for number in range(TRIES):
        asked = replace(member, cpu_milli=4000 + number)  # of a class that has not been seen yet
        before = sorted((seat.id, seat.node, seat.devices) for seat in cell.seats())
        began = time.process_time()
        mark = cell.mark()
        seats = cell.put_many(asked, GANG, strategy=Strategy.AUTO, work="gang")
        placed = time.process_time()
        cell.rollback(mark)
        undoing.append((time.process_time() - placed) * 1000)
        placing.append((placed - began) * 1000)
        if len(seats) != GANG or sorted((seat.id, seat.node, seat.devices) for seat in cell.seats()) != before:
            raise SystemExit(f"the gang got {len(seats)} seats, or was not undone exactly")
    table.add(f"scheduler_throughput/gang_{GANG}_ms", min(placing), None, None, "ms")
    table.add(f"scheduler_throughput/rollback_{GANG}_ms", min(undoing), None, None, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, to see that it works")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.decisions, chosen.nodes = 1000, [100, 1000]
    trace = openb.read(openb.FOLDER, "default")
    table = Table(f"scheduler_throughput: {chosen.decisions} decisions at {FULL:.0%} of GPUs, one core")
    print(f"published, at 10,000 nodes: {', '.join(f'{name} {rate}/s' for name, rate in PUBLISHED.items())}")
    churn = pure(table, trace, chosen.decisions, chosen.nodes)
    nothing_fits(table, churn)
    if chosen.nodes[-1] >= GANG_NODES:
        gang(table, trace, chosen.nodes[-1])
    table.print_figures()


if __name__ == "__main__":
    main()
