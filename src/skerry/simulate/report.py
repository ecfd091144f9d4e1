"""A replay's figures for people and for programs: one table in which policies stand beside each other, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skerry.errors import Invalid
from skerry.model.amounts import format_size
from skerry.simulate.metrics import Figures, Shares, Slowdowns, Waits
from skerry.simulate.trace import Trace, capacity, mean_demand

Cell = Callable[[Figures], str]
NONE = "-"


def document(trace: Trace, runs: Sequence[Figures], seed: int) -> dict[str, Any]:
    whole = capacity(trace.nodes)
    arrivals = trace.arrivals
    about = {
        "name": trace.name,
        "jobs": len(arrivals),
        "span_s": arrivals[-1].work.submitted_s if arrivals else 0.0,
        "load": load(trace),
        "nodes": len(trace.nodes),
        "cores": whole.cpu_milli / 1000,
        "memory_bytes": whole.memory_bytes,
        "gpus": whole.gpu_milli / 1000,
        "seed": seed,
    }
    return {"trace": about, "runs": [asdict(run) for run in runs]}


def load(trace: Trace) -> float | None:
    """Mean demand over what the nodes have. None: it all comes at once, or some of it stays."""
    try:
        return mean_demand(trace.arrivals).share_of(capacity(trace.nodes))
    except Invalid:
        return None


def title(trace: Trace) -> str:
    whole = capacity(trace.nodes)
    gpus = f", {whole.gpu_milli / 1000:,.0f} GPUs" if whole.gpu_milli else ""
    has = f"{whole.cpu_milli / 1000:,.0f} cores, {format_size(int(whole.memory_bytes))}{gpus}"
    told = f"{trace.name}: {len(trace.arrivals):,} jobs on {len(trace.nodes):,} nodes ({has})"
    asked = load(trace)
    if asked is None:
        return told
    return f"{told}, which ask {percent(asked)} of it over {duration(trace.arrivals[-1].work.submitted_s)}"


def table(runs: Sequence[Figures]) -> tuple[list[str], list[list[str]]]:
    """(headings, rows): a figure a row, a policy a column. A figure that no run has is left out."""
    rows = [[name, *(cell(run) for run in runs)] for name, cell in _cells(runs)]
    return ["FIGURE", *(run.name for run in runs)], [row for row in rows if set(row[1:]) != {NONE}]


def percent(share: float | None) -> str:
    return NONE if share is None else f"{share * 100:.1f}%"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    for unit, unit_s in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.1f} s"


def _cells(runs: Sequence[Figures]) -> list[tuple[str, Cell]]:
    tiers = dict.fromkeys(tier for run in runs for tier in run.waiting_by_tier)
    return [
        ("ended", lambda run: f"{run.ended:,}"),
        ("still waiting at the end", lambda run: _count(run.waiting_at_end)),
        ("fit nowhere, ever", lambda run: _count(run.never_fit)),
        *_allocation("allocated, mean", lambda run: run.allocated_mean),
        *_allocation("allocated at the last arrival", lambda run: run.allocated_at_last_arrival),
        *_allocation("allocated at the end", lambda run: run.allocated_at_end),
        ("useful work, of what there is", lambda run: percent(run.utilisation)),
        ("free GPUs that are fragments, mean", lambda run: percent(run.fragmentation_mean)),
        ("free GPUs that are fragments, at the last arrival", lambda run: percent(run.fragmentation_at_last)),
        ("wait p50 / p90 / p99", lambda run: _wait(run.waiting)),
        ("wait, mean", lambda run: NONE if run.waiting is None else duration(run.waiting.mean_s)),
        ("wait of the small 99%", lambda run: _wait(run.waiting_by_size.get("small"))),
        ("wait of the large 1%", lambda run: _wait(run.waiting_by_size.get("large"))),
        *((f"wait, {tier}", _of_tier(tier)) for tier in tiers),
        ("slowdown p50 / p99", lambda run: _slowdown(run.slowdown)),
        ("slowdown, mean", lambda run: NONE if run.slowdown is None else f"{run.slowdown.mean:,.2f}"),
        ("fairness (Jain)", lambda run: NONE if run.fairness_index is None else f"{run.fairness_index:.3f}"),
        ("least of an equal share", lambda run: percent(run.fairness_worst)),
        ("preempted", lambda run: _count(run.preemptions)),
        ("work lost", lambda run: percent(run.work_lost_share) if run.work_lost_share else NONE),
        ("longest queue", lambda run: f"{run.queue_max:,}"),
        ("makespan", lambda run: duration(run.makespan_s)),
        ("decisions a second", lambda run: _of(run.wall, "decisions_per_s", "{:,.0f}")),
        ("a pass, p99", lambda run: _of(run.wall, "pass_ms_p99", "{:.1f} ms")),
        ("simulated in", lambda run: _of(run.wall, "seconds", "{:.1f} s")),
    ]


def _allocation(name: str, of: Callable[[Figures], Shares | None]) -> list[tuple[str, Cell]]:
    def cell(resource: str) -> Cell:
        def told(run: Figures) -> str:
            shares = of(run)
            return NONE if shares is None else percent(getattr(shares, resource))

        return told

    return [(f"{name}: {resource}", cell(resource)) for resource in ("cpu", "memory", "gpu")]


def _of_tier(tier: str) -> Cell:
    return lambda run: _wait(run.waiting_by_tier.get(tier))


def _wait(waits: Waits | None) -> str:
    return NONE if waits is None else " / ".join(duration(each) for each in (waits.p50_s, waits.p90_s, waits.p99_s))


def _slowdown(found: Slowdowns | None) -> str:
    return NONE if found is None else f"{found.p50:,.2f} / {found.p99:,.1f}"


def _count(count: int) -> str:
    return f"{count:,}" if count else NONE


def _of(wall: Mapping[str, float], name: str, form: str) -> str:
    return form.format(wall[name]) if name in wall else NONE
