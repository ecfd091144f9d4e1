"""How much of the GPUs is allocated when as many have been asked for as there are: ours beside the rules of others."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import openb
from harness import Table
from placement_peers import BestFit, Clustering, DotProduct, Packing, Peer, Random

from skerry.model.queue import Strategy
from skerry.scheduler.cell import Cell
from skerry.scheduler.demand import typical, weigh
from skerry.scheduler.scores.scorer import Scorer

VARIANTS = ("default", "gpushare40", "multigpu50")
FIRST_SEED = 42
PEERS: Mapping[str, Callable[[int], Peer]] = {
    "random": Random,
    "dot-product": lambda _: DotProduct(),
    "clustering": lambda _: Clustering(),
    "packing": lambda _: Packing(),
    "best-fit": lambda _: BestFit(),
}
OURS = {"FGD": Strategy.FRAGMENTATION, "auto": Strategy.AUTO}
PUBLISHED = {
    "default": (86.30, 90.62, 91.65, 91.78, 92.86, 95.23),
    "gpushare40": (84.86, 89.30, 89.76, 89.77, 91.44, 93.96),
    "multigpu50": (81.28, 94.73, 95.69, 96.06, 95.62, 97.09),
    "gpuspec33": (83.87, 79.82, 81.09, 82.22, 80.39, 87.84),
    "cpu200": (83.03, 87.45, 89.67, 89.98, 92.15, 94.82),
}
"""Percent of the artifact's own runs, in the order of PEERS and then FGD."""


def allocated(trace: openb.Trace, rule: str, seed: int, until: float = 1.0) -> float:
    """Percent of the GPUs, in the mean over the arrivals at which what was asked for rounds to `until`."""
    strategy = OURS.get(rule, Strategy.PACK)
    peer = PEERS[rule](seed) if rule in PEERS else None
    scorers: dict[Strategy, Scorer] = {} if peer is None else {strategy: peer}
    cell = Cell(trace.nodes, seed=seed, scorers=scorers)
    demand = weigh(_typical(trace))
    cell.foresee(demand)
    asked = given = 0
    found: list[float] = []
    for number, pod in enumerate(openb.arrivals(trace, seed, until + 0.005)):
        if isinstance(peer, Random):
            cell.foresee(demand[:-1] if number % 2 else demand)  # forgets the scores, so that all are drawn anew
        milli = pod.gpu_count * pod.gpu_milli
        asked += milli
        seat = cell.put(pod, strategy=strategy)
        if seat is not None:
            given += milli
            if peer is not None:
                peer.placed(seat.node, milli)
        if round(100 * asked / trace.gpu_milli) == round(100 * until):
            found.append(100 * given / trace.gpu_milli)
    return statistics.fmean(found)


def _typical(trace: openb.Trace) -> dict[object, int]:
    counts: dict[object, int] = {}
    for shape, count in openb.counted(trace).items():
        kind = typical(shape)
        counts[kind] = counts.get(kind, 0) + count
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=os.environ.get("OPENB_TRACE", str(openb.FOLDER)), type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="of openb_pod_list_<variant>.csv[.gz]")
    parser.add_argument("--rules", nargs="+", default=[*PEERS, *OURS], choices=[*PEERS, *OURS])
    parser.add_argument("--quick", action="store_true", help="two seeds of the default trace, FGD and ours")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.seeds, chosen.variants, chosen.rules = 2, ["default"], list(OURS)
    seeds = range(FIRST_SEED, FIRST_SEED + chosen.seeds)
    table = Table(f"scheduler_quality: percent of GPUs allocated, mean of {chosen.seeds} seeds")
    for variant in chosen.variants:
        trace = openb.read(chosen.folder, variant)
        means: dict[str, float] = {}
        for rule in chosen.rules:
            values = [allocated(trace, rule, seed) for seed in seeds]
            means[rule] = statistics.fmean(values)
            published = dict(zip([*PEERS, "FGD"], PUBLISHED.get(variant, ()), strict=False)).get(rule)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            told = "" if published is None else f"   published {published:.2f}"
            print(f"  {variant:<12} {rule:<12} {means[rule]:6.2f} ± {spread:.2f}{told}", flush=True)
        if "auto" in means:
            table.add(f"scheduler_quality/{variant}", means["auto"], means.get("FGD"), "FGD", "%")
    table.print_figures()


if __name__ == "__main__":
    main()
