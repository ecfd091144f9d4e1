"""Which policy finds most of what is cached, and when first tokens come: simulated engines, ours beside cache_aware.

Every policy routes the same traces to the same simulated replicas, in simulated time, so that load on this machine
changes nothing but the last column. `auto` is ours; the peer of each figure is the best of all others on that trace.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from peers.cache_aware import CacheAware
from routing_fleet import Fleet, Result
from routing_real import measure
from routing_traces import Session, Shape, bailian, bailian_like, lines, mooncake, one_infinite_cache, synthetic

from skerry.engines.simulator.profile import Profile
from skerry.gateway.routing.catalog import policy
from skerry.gateway.routing.contract import Policy
from skerry.model.service import PolicyName

MOONCAKE: Final = Path(__file__).with_name("data") / "mooncake" / "conversation_trace_4000.jsonl.gz"
MOONCAKE_STEP: Final = 650
"""Requests by which the part of the trace that a seed has begins later: one part alone has one answer by chance."""
SMALL: Final = Profile(blocks=5_700, sequences=64, batch_tokens=2048, slowness=6.0)
"""An 8B model in 8 bits on one L4, a sixth of an H100: 12 GB are left for the cache."""
TIGHT: Final = Profile(blocks=3_500, sequences=64, batch_tokens=2048, slowness=6.0)
"""In an overload the answers alone take most of it."""
OFFLOADED: Final = Profile(blocks=100_000)
"""An H100 with 160 GB of the machine's memory behind its cache, without which this trace's prompts find nothing."""
P = PolicyName
OURS: Final = "auto"
PEER: Final = "cache_aware"
POLICIES: Final[Mapping[str, Callable[[int], Policy]]] = {
    PEER: lambda seed: CacheAware(),
    **{
        name.value: lambda seed, name=name: policy(name, seed)
        for name in (
            P.ROUND_ROBIN,
            P.RANDOM,
            P.LEAST_LOAD,
            P.POWER_OF_TWO,
            P.SESSION,
            P.HYBRID,
            P.PREFIX,
            P.SLO,
            P.AUTO,
        )
    },
}
"""Without `lora` and `disaggregated`: no trace has adapters, and replicas are alike."""


class Case(NamedTuple):
    name: str
    sessions: Callable[[int], list[Session]]
    replicas: int
    profile: Profile
    speeds: Sequence[float] = ()


def cases(quick: bool, mooncake_file: Path, bailian_file: Path | None) -> list[Case]:
    part = 8 if quick else 1

    def made_up(sessions: int, per_s: float, replicas: int, profile: Profile, name: str, **more: float) -> Case:
        shape = Shape(sessions=sessions // part, per_s=per_s, **more)  # pyright: ignore[reportArgumentType]
        return Case(name, lambda seed: synthetic(shape, seed), replicas, profile)

    def of_mooncake(limit: int, faster: float, name: str) -> Case:
        def read(seed: int) -> list[Session]:
            first = (seed - 1) * MOONCAKE_STEP // part
            rows = islice(lines(mooncake_file, first + limit // part), first, None)
            return mooncake(rows, faster)

        return Case(name, read, 4, OFFLOADED)

    def of_bailian(sessions: int, faster: float, name: str) -> Case:
        def read(seed: int) -> list[Session]:
            if bailian_file is not None:
                return bailian(lines(bailian_file, sessions * 3), faster)
            return bailian(bailian_like(seed, sessions // part, 3.0), faster)

        return Case(name, read, 4, SMALL)

    return [
        made_up(300, 1.0, 4, SMALL, "chat-calm"),
        made_up(500, 12.0, 4, SMALL, "chat-overload"),
        made_up(500, 12.0, 4, TIGHT, "chat-overload-tight"),
        made_up(600, 8.0, 8, TIGHT, "chat-busy-8"),
        Case("chat-unlike", made_up(400, 4.0, 4, SMALL, "").sessions, 4, SMALL, (3.0, 6.0, 6.0, 12.0)),
        of_mooncake(2000, 1.0, "mooncake"),
        of_mooncake(2000, 2.0, "mooncake-overload"),
        of_bailian(500, 1.0, "bailian"),
        of_bailian(800, 3.0, "bailian-overload"),
    ]


def mean(results: Sequence[Result]) -> Result:
    return Result(*(statistics.fmean(column) for column in zip(*results, strict=True)))  # pyright: ignore[reportArgumentType]


def run(case: Case, seeds: Sequence[int]) -> dict[str, Result]:
    traces = [case.sessions(seed) for seed in seeds]
    infinite = statistics.fmean(one_infinite_cache(trace) for trace in traces)
    print(f"\n{case.name}: {case.replicas} replicas, one infinite cache would find {infinite:.3f}")
    print(
        f"{'':<14}{'hit':>7}{'TTFT p50':>11}{'p99 ms':>10}{'max:mean':>10}{'latency s':>11}{'pick us':>9}", flush=True
    )
    found: dict[str, Result] = {}
    for name, make in POLICIES.items():
        fleets = [
            Fleet(make(seed), case.replicas, case.profile, fine=name == PEER, speeds=case.speeds) for seed in seeds
        ]
        result = found[name] = mean([fleet.run(trace) for fleet, trace in zip(fleets, traces, strict=True)])
        times = f"{result.ttft_p50_s * 1000:>11.0f}{result.ttft_p99_s * 1000:>10.0f}"
        rest = f"{result.imbalance:>10.2f}{result.latency_s:>11.2f}{result.pick_us:>9.0f}"
        print(f"{name:<14}{result.hit_ratio:>7.3f}{times}{rest}", flush=True)
    return found


def figures(found: Mapping[str, Mapping[str, Result]]) -> None:
    """A line for each policy on each trace, and one each for ours beside the best of the others."""
    print()
    for trace, results in found.items():
        for name, result in results.items():
            for figure, value, unit in (
                ("hit_ratio", result.hit_ratio, "share"),
                ("ttft_p99_ms", result.ttft_p99_s * 1000, "ms"),
            ):
                print(json.dumps({"name": f"routing/{trace}/{name}/{figure}", "ours": round(value, 4), "unit": unit}))
        ours = results[OURS]
        others = {name: result for name, result in results.items() if name != OURS}
        most = max(others, key=lambda name: others[name].hit_ratio)
        quickest = min(others, key=lambda name: others[name].ttft_p99_s)
        _figure(f"routing/{trace}_hit", ours.hit_ratio, others[most].hit_ratio, most, "share")
        p99_ms = others[quickest].ttft_p99_s * 1000
        _figure(f"routing/{trace}_p99_ttft", ours.ttft_p99_s * 1000, p99_ms, quickest, "ms")


def _figure(name: str, ours: float, peer: float, peer_name: str, unit: str) -> None:
    told = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "peer_name": peer_name}
    print(json.dumps({**told, "ratio": round(ours / peer, 3), "unit": unit}), flush=True)


def plot(found: Mapping[str, Mapping[str, Result]], path: Path) -> None:
    """Each trace's policies by what they find and when the first token comes: the upper left is best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, -(-len(found) // 2), figsize=(4 * -(-len(found) // 2), 8), squeeze=False)
    for axis, (trace, results) in zip(axes.flat, found.items(), strict=False):
        for name, result in results.items():
            x, y = result.ttft_p99_s * 1000, result.hit_ratio
            axis.scatter(x, y, color="tab:red" if name == OURS else "tab:gray")
            axis.annotate(name, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(title=trace, xscale="log", xlabel="TTFT p99, ms", ylabel="hit ratio")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="seeds of what is made up, and parts of Mooncake's")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, to see that it works")
    parser.add_argument("--only", default="", help="names of traces, with commas")
    parser.add_argument("--mooncake", type=Path, default=MOONCAKE, help="a trace in Mooncake's format")
    parser.add_argument("--bailian", type=Path, help="a trace in Bailian's format; without it one is made up")
    parser.add_argument("--real", action="store_true", help="only the real sglang-router and our gateway, in real time")
    parser.add_argument("--plot", type=Path, help="a PNG to write")
    chosen = parser.parse_args()
    if chosen.real:
        measure(SMALL)
        return
    wanted = set(filter(None, chosen.only.split(",")))
    seeds = range(1, 2 if chosen.quick else chosen.rounds + 1)
    found: dict[str, dict[str, Result]] = {}
    for case in cases(chosen.quick, chosen.mooncake, chosen.bailian):
        if not wanted or case.name in wanted:
            found[case.name] = run(case, seeds)
    figures(found)
    if chosen.plot:
        plot(found, chosen.plot)


if __name__ == "__main__":
    main()
