"""A report of one or several runs in one file of HTML, which asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from skerry.bench.frame import Floats, Frame
from skerry.bench.measure.metrics import ONE, values_of
from skerry.bench.measure.summary import Summary, at_once
from skerry.bench.report import table
from skerry.bench.report.svg import Series, plot
from skerry.bench.report.table import Row

BINS = 60
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1120px;padding:0 1rem;color:#1f2937}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #d1d5db}
table{border-collapse:collapse;margin:.7rem 0}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #e5e7eb}
td:first-child,th:first-child{text-align:left}.no{color:#b91c1c;font-weight:600}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:1rem}
svg{width:100%;background:#fff;border:1px solid #e5e7eb;border-radius:6px}
svg .grid{stroke:#e5e7eb}svg .tick{font-size:10px;fill:#4b5563}svg .label{font-size:11px;fill:#374151}
svg .title{font-size:12px;font-weight:600;fill:#111827}
"""


@dataclass(frozen=True)
class Told:
    """A run to be told of."""

    name: str
    summary: Summary
    frame: Frame
    server: Sequence[Mapping[str, float]] = ()
    """What it said of itself, each second."""


def page(title: str, runs: Sequence[Told]) -> str:
    parts = [f"<h1>{escape(title)}</h1>"]
    if len(runs) > 1:
        parts += ["<h2>All runs</h2>", _html(*overview(runs)), _plots([*_curves(runs), *_distributions(runs)])]
    for run in runs:
        parts.append(f"<h2>{escape(run.name or 'The run')}</h2>")
        parts.append(_html(("", ""), [(name, value) for name, value in table.head(run.summary)]))
        for header, rows in (table.latencies(run.summary), table.others(run.summary), table.kept(run.summary)):
            parts.append(_html(header, rows) if rows else "")
        shown = [*_over_time(run), *_server(run), *([] if len(runs) > 1 else _distributions(runs))]
        parts.append(_plots(shown))
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def overview(runs: Sequence[Told]) -> tuple[Row, list[Row]]:
    """A line each."""
    header = (
        "",
        "requests/s",
        "tokens/s out",
        "ttft p50",
        "ttft p99",
        "tpot p50",
        "tpot p99",
        "e2e p99",
        "failed",
        "goodput",
    )
    rows: list[Row] = []
    for run in runs:
        metrics, rates = run.summary.metrics, run.summary.rates
        cells = [
            table.number(metrics[name].percentiles[at] * 1000) + " ms" if name in metrics else "-"
            for name, at in (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"), ("e2e", "p99"))
        ]
        first = [table.number(rates.get(f"{name}_per_second", 0.0)) for name in ("requests", "output_tokens")]
        last = [f"{rates.get('error_rate', 0.0):.1%}", f"{rates.get('goodput_share', 0.0):.1%}"]
        rows.append((run.name, *first, *cells, *last))
    return header, rows


def _html(header: Row, rows: Sequence[Row]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header) if any(header) else ""
    lines = [
        "<tr>" + "".join(f"<td{' class=no' if cell == 'NO' else ''}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{''.join(lines)}</table>"


def _plots(plots: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(each for each in plots if each)}</div>'


def _distributions(runs: Sequence[Told]) -> list[str]:
    names = {
        "ttft": "Time to first token",
        "tpot": "Time per output token",
        "itl": "Between tokens",
        "e2e": "End to end",
    }
    found: list[str] = []
    for metric, title in names.items():
        series = [_cdf(run.name if len(runs) > 1 else "", values_of(metric, run.frame)) for run in runs]
        found.append(plot(f"{title}: share of them that took no longer", "ms", "share", series, log_x=True))
    return found


def _cdf(name: str, values: Floats) -> Series:
    levels = np.linspace(0, 1, 301)
    if not values.size:
        return Series(name, np.empty(0), np.empty(0))
    return Series(name, np.maximum(np.quantile(values.astype(np.float64), levels) * 1000, 1e-3), levels)


def _over_time(run: Told) -> list[str]:
    frame = run.frame
    if not len(frame):
        return []
    until_s = float(frame["ended_s"].max())
    edges = np.linspace(0, max(until_s, 1e-3), BINS + 1)
    width_s, middles = edges[1] - edges[0], (edges[1:] + edges[:-1]) / 2
    sent = np.histogram(frame["sent_s"], edges)[0] / width_s
    ended = np.histogram(frame["ended_s"][frame.ok], edges)[0] / width_s
    tokens = np.histogram(frame["ended_s"], edges, weights=frame["output_tokens"])[0] / width_s
    if len(frame.ticks):
        moments = frame.ticks * 1e-6 + np.repeat(frame["sent_s"], np.diff(frame.ends))
        tokens = np.histogram(moments, edges)[0] / width_s
    moments, under_way = at_once(frame)
    ttft = ONE["ttft"](frame)
    has = frame.ok & ~np.isnan(ttft)
    dots = Series("", frame["sent_s"][has], ttft[has] * 1000, dots=True)
    e2e = ONE["e2e"](frame)[frame.ok] * 1000
    return [
        plot("Requests a second", "s", "1/s", [Series("sent", middles, sent), Series("answered", middles, ended)]),
        plot("Tokens a second (events of streams)", "s", "1/s", [Series("", middles, tokens)]),
        plot("Requests at once", "s", "", [Series("", moments, under_way)]),
        plot("Time to first token, by when it was sent", "s", "ms", [dots]),
        plot("End to end, by when it was sent", "s", "ms", [Series("", frame["sent_s"][frame.ok], e2e, dots=True)]),
    ]


def _server(run: Told) -> list[str]:
    def series(name: str) -> Series:
        rows = [(sample["at_s"], sample[name]) for sample in run.server if name in sample]
        return Series(name, np.array([at for at, _ in rows], np.float64), np.array([v for _, v in rows], np.float64))

    queue = [each for each in (series("running"), series("waiting")) if each.x.size]
    use = [each for each in (series("kv_use"), series("gpu_use")) if each.x.size]
    return [
        plot("The server's own count of requests", "s", "", queue),
        plot("Use of cache and GPUs", "s", "share", use),
    ]


def _curves(runs: Sequence[Told]) -> list[str]:
    measured = [run for run in runs if {"ttft", "e2e"} <= run.summary.metrics.keys()]
    rate = np.array([run.summary.rates["requests_per_second"] for run in measured])
    order = np.argsort(rate)

    def by(metric: str, at: str) -> Series:
        values = np.array([run.summary.metrics[metric].percentiles[at] * 1000 for run in measured])
        return Series(f"{metric} {at}", rate[order], values[order], marks=True)

    if len(measured) < 2:
        return []
    tokens = np.array([run.summary.rates["output_tokens_per_second"] for run in measured])
    goodput = np.array([run.summary.rates["goodput"] for run in measured])
    latency = np.array([run.summary.metrics["e2e"].percentiles["p50"] * 1000 for run in measured])
    return [
        plot("First token by throughput", "requests/s", "ms", [by("ttft", "p50"), by("ttft", "p99")]),
        plot("End to end by throughput", "requests/s", "ms", [by("e2e", "p50"), by("e2e", "p99")]),
        plot("Tokens a second by latency", "e2e p50, ms", "tokens/s", [Series("", latency, tokens, marks=True)]),
        plot(
            "Goodput by throughput", "requests/s", "requests/s", [Series("", rate[order], goodput[order], marks=True)]
        ),
    ]
