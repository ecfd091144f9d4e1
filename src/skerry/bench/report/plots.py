"""The pictures of a report: distributions, what happened over time, and of several runs latency by throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.bench.frame import BLOCK, TICK_S, Floats, Frame
from skerry.bench.measure.metrics import ONE, values_of
from skerry.bench.measure.summary import Summary, at_once
from skerry.bench.report.svg import Series, plot

BINS_MIN, BINS_MAX = 10, 60
REQUESTS_PER_BIN = 4
LEVELS = np.linspace(0.01, 1, 298)
"""From 1 % on: the one gap of a microsecond among thousands would be half of a logarithmic axis."""
TITLES = {
    "ttft": "Time to first token",
    "tpot": "Time per output token",
    "itl": "Between tokens",
    "e2e": "End to end",
}


@dataclass(frozen=True)
class Told:
    """A run to be told of."""

    name: str
    summary: Summary
    frame: Frame
    server: Sequence[Mapping[str, float]] = ()
    """What it said of itself, each second."""
    about: Sequence[tuple[str, str]] = ()


def distributions(runs: Sequence[Told]) -> list[str]:
    named = [(run.name if len(runs) > 1 else "", run.frame) for run in runs]
    return cumulative({metric: [(name, values_of(metric, frame)) for name, frame in named] for metric in TITLES})


def cumulative(samples: Mapping[str, Sequence[tuple[str, Floats]]]) -> list[str]:
    """By metric: the name of each run, and what it has of it in seconds, which is put in order."""
    return [
        plot(
            f"{TITLES[metric]}: share that took no longer",
            "ms",
            "share",
            [_cdf(name, values) for name, values in several],
            log_x=True,
        )
        for metric, several in samples.items()
    ]


def _cdf(name: str, values: Floats) -> Series:
    if not values.size:
        return Series(name, np.empty(0), np.empty(0))
    values.sort()  # in its place: one as large beside it is more than all else of a report
    picks = values[np.rint(LEVELS * (values.size - 1)).astype(np.int64)]
    return Series(name, np.maximum(picks.astype(np.float64) * 1000, 1e-3), LEVELS)


def over_time(run: Told) -> list[str]:
    frame = run.frame
    if not len(frame):
        return []
    bins = min(max(len(frame) // REQUESTS_PER_BIN, BINS_MIN), BINS_MAX)  # few requests in each would only flicker
    edges = np.linspace(0, max(float(frame["ended_s"].max()), 1e-3), bins + 1)
    width_s, middles = edges[1] - edges[0], (edges[1:] + edges[:-1]) / 2
    sent = np.histogram(frame["sent_s"], edges)[0] / width_s
    ended = np.histogram(frame["ended_s"][frame.ok], edges)[0] / width_s
    failed = np.histogram(frame["ended_s"][~frame.ok], edges)[0] / width_s
    rates = [Series("sent", middles, sent), Series("answered", middles, ended)]
    rates += [Series("failed", middles, failed)] if failed.any() else []
    tokens = np.histogram(frame["ended_s"], edges, weights=frame["output_tokens"])[0] / width_s
    if len(frame.ticks):
        tokens = _events(frame, edges) / width_s
    moments, under_way = (np.repeat(each, 2) for each in at_once(frame))  # steps
    ttft, e2e = ONE["ttft"](frame) * 1000, ONE["e2e"](frame) * 1000
    has = frame.ok & ~np.isnan(ttft)
    ends = [Series("answered" if failed.any() else "", frame["sent_s"][frame.ok], e2e[frame.ok], dots=True)]
    ends += [Series("failed", frame["sent_s"][~frame.ok], e2e[~frame.ok], dots=True)]
    return [
        plot("Requests a second", "s", "1/s", rates),
        plot("Tokens a second (events of streams)", "s", "1/s", [Series("", middles, tokens)]),
        plot("Requests at once", "s", "requests", [Series("", moments[1:], under_way[:-1])]),
        plot(
            "Time to first token, by when it was sent",
            "s",
            "ms",
            [Series("", frame["sent_s"][has], ttft[has], dots=True)],
        ),
        plot("End to end, by when it was sent", "s", "ms", ends),
    ]


def _events(frame: Frame, edges: Floats) -> Floats:
    """Between two edges each; of some requests at a time, for all moments at once are the most memory of a run."""
    found = np.zeros(len(edges) - 1)
    for since in range(0, len(frame), BLOCK):
        ends = frame.ends[since : since + BLOCK + 1]
        sent_s = np.repeat(frame["sent_s"][since : since + BLOCK], np.diff(ends))
        found += np.histogram(frame.ticks[ends[0] : ends[-1]] * TICK_S + sent_s, edges)[0]
    return found


def server(run: Told) -> list[str]:
    def series(name: str) -> Series:
        rows = [(sample["at_s"], sample[name]) for sample in run.server if name in sample]
        return Series(name, np.array([at for at, _ in rows], np.float64), np.array([v for _, v in rows], np.float64))

    return [
        plot("The server's own count of requests", "s", "requests", [series("running"), series("waiting")]),
        plot("Use of cache and GPUs", "s", "share", [series("kv_use"), series("gpu_use")]),
        plot("Power of the GPUs", "s", "W", [series("gpu_watts")]),
    ]


def curves(runs: Sequence[Told], line: bool) -> list[str]:
    """A point for each run. `line`: they are of one thing that grows, and are joined."""
    measured = [run for run in runs if {"ttft", "e2e"} <= run.summary.metrics.keys()]
    if len(measured) < 2:
        return []

    def rates(name: str) -> Floats:
        return np.array([run.summary.rates[name] for run in measured])

    names = [run.name for run in measured]
    rate, tokens = rates("requests_per_second"), rates("output_tokens_per_second")

    def by(metric: str, at: str, x: Floats, *, labels: Sequence[str] = ()) -> Series:
        values = np.array([run.summary.metrics[metric].percentiles[at] * 1000 for run in measured])
        return Series(f"{metric} {at}", x, values, marks=True, line=line, labels=labels)

    first = [by("ttft", "p50", rate), by("ttft", "p99", rate, labels=names)]
    end = [by("e2e", "p50", rate), by("e2e", "p99", rate, labels=names)]
    good = [Series("", rate, rates("goodput"), marks=True, line=line, labels=names)]
    return [
        plot("First token by throughput", "requests/s", "ms", first),
        plot("End to end by throughput", "requests/s", "ms", end),
        plot("Latency by tokens a second", "tokens/s", "ms", [by("e2e", "p50", tokens, labels=names)]),
        plot("Goodput by throughput", "requests/s", "requests/s", good),
    ]
