"""A heavy tail, in which one job in a hundred is 99 % of the load: how long the small 99 % wait under our queue's usual
settings, beside plain FIFO (nobody passes the one who is next, nobody is stopped, no part is kept for small work).

The same jobs at the same moments on the same simulated nodes, through the same scheduler; one trace for each seed. What
arrives in the first fifth is not counted, for the nodes are empty then. A pass decides for what came within 0.1 s.

The figures are of ours with nobody stopped, as under FIFO: both then do about as much useful work. With preemption, as
is usual, work of low tiers that makes room is lost here, since nothing is checkpointed: less of it is useful.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from skerry.simulate.decide import RealScheduler
from skerry.simulate.metrics import figures, is_large, waits_s
from skerry.simulate.replay import Replay
from skerry.simulate.rules import read_rules
from skerry.simulate.trace import Trace, alike, at_load
from skerry.simulate.traces import borg

USUAL: Final = "fair-share"
OURS: Final = "fair-share,preemption=no"
PLAIN: Final = "fifo,backfill=no,small-share=0,preemption=no"
NODES: Final = 100
LOAD: Final = 0.8
TICK_S: Final = 0.1
WARM_UP: Final = 0.2


@dataclass(frozen=True)
class Side:
    p50_s: float
    p99_s: float
    mean_s: float
    large_p50_s: float
    utilisation: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--load", type=float, default=LOAD)
    parser.add_argument("--quick", action="store_true", help="one small trace, to see that it works")
    chosen = parser.parse_args()
    seeds, jobs = (1, 400) if chosen.quick else (chosen.seeds, chosen.jobs)
    print(f"heavy_tail: {seeds} traces of {jobs} jobs on {NODES} nodes, which ask {chosen.load:.0%} of them")
    print(f"{'seed':<6}{'':<12}{'small p50':>11}{'p99':>11}{'mean':>11}{'large p50':>11}{'useful':>9}{'CPU':>9}")
    names = {OURS: "ours", USUAL: "preempting", PLAIN: "plain FIFO"}
    found: dict[str, list[Side]] = {rules: [] for rules in names}
    nodes = alike(NODES, borg.NODE)
    for seed in range(seeds):
        trace = at_load(Trace("borg", nodes, borg.generate(seed, jobs, nodes)), chosen.load)
        for rules, name in names.items():
            side = played(trace, rules, seed)
            found[rules].append(side)
            times = "".join(f"{each:>9.1f} s" for each in (side.p50_s, side.p99_s, side.mean_s, side.large_p50_s))
            print(f"{seed:<6}{name:<12}{times}{side.utilisation:>9.1%}{side.cpu_s:>7.1f} s", flush=True)
    print()
    _tell("small_p99_wait", found, "p99_s", "s")
    _tell("small_p50_wait", found, "p50_s", "s")
    _tell("small_mean_wait", found, "mean_s", "s")
    _tell("utilisation", found, "utilisation", "")


def _tell(name: str, found: dict[str, list[Side]], field: str, unit: str) -> None:
    ours, plain = (statistics.mean(getattr(side, field) for side in found[rules]) for rules in (OURS, PLAIN))
    told = {"name": f"heavy_tail/{name}", "ours": round(ours, 3), "peer": round(plain, 3), "peer_name": "plain FIFO"}
    print(json.dumps({**told, "ratio": round(ours / plain, 4) if plain else None, "unit": unit}))


def played(trace: Trace, rules: str, seed: int) -> Side:
    began_s = time.process_time()
    replay = Replay(trace, read_rules(rules), RealScheduler(trace, seed), tick_s=TICK_S, seed=seed)
    for _ in replay.passes():
        pass
    outcome = replay.outcome
    arrives_s = np.array([life.arrival.work.submitted_s for life in outcome.lives])
    counted = arrives_s >= WARM_UP * arrives_s[-1]
    waits, large = waits_s(outcome), is_large(trace)
    small = waits[counted & ~large]
    return Side(
        p50_s=float(np.percentile(small, 50)),
        p99_s=float(np.percentile(small, 99)),
        mean_s=float(small.mean()),
        large_p50_s=float(np.percentile(waits[counted & large], 50)),
        utilisation=figures(trace, outcome).utilisation or 0.0,
        cpu_s=time.process_time() - began_s,
    )


if __name__ == "__main__":
    main()
