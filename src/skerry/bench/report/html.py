"""A report of one or several runs in one file of HTML, which asks nothing of the network.

It is read in a browser by day and by night, on a wide screen and on a phone, and printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from skerry.bench.report import plots, table
from skerry.bench.report.plots import Told
from skerry.bench.report.table import Row

if TYPE_CHECKING:
    from skerry.bench.results import Result

STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1f2937;--dim:#4b5563;--line:#e5e7eb;--bad:#b91c1c;
--c0:#2563eb;--c1:#dc2626;--c2:#059669;--c3:#d97706;--c4:#7c3aed;--c5:#0891b2;--c6:#be185d;--c7:#4d7c0f}
@media (prefers-color-scheme:dark){:root{--back:#14181f;--text:#e5e7eb;--dim:#9ca3af;--line:#2c333f;--bad:#f87171;
--c0:#60a5fa;--c1:#f87171;--c2:#34d399;--c3:#fbbf24;--c4:#a78bfa;--c5:#22d3ee;--c6:#f472b6;--c7:#a3e635}}
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1120px;padding:0 1rem;
background:var(--back);color:var(--text)}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.table{overflow-x:auto}table{border-collapse:collapse;margin:.7rem 0}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
td:first-child,th:first-child,.facts td{text-align:left}.facts td,td:first-child{white-space:normal}
.facts td:first-child{color:var(--dim);white-space:nowrap;vertical-align:top}.facts td{overflow-wrap:anywhere}
.no{color:var(--bad);font-weight:600}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:1rem;align-items:start}
svg{width:100%;border:1px solid var(--line);border-radius:6px}svg .grid{stroke:var(--line)}
svg .tick{font-size:10px;fill:var(--dim)}svg .label,svg .point{font-size:11px;fill:var(--dim)}
svg .title{font-size:12px;font-weight:600;fill:var(--text)}
.line{fill:none;stroke-width:1.8}.dots{fill-opacity:.5}
""" + "".join(f".line.c{at}{{stroke:var(--c{at})}}.dots.c{at},.marks.c{at}{{fill:var(--c{at})}}" for at in range(8))


def page(
    title: str,
    runs: Sequence[Told],
    *,
    swept: bool = False,
    repeated: Sequence[tuple[str, Row, Sequence[Row]]] = (),
) -> str:
    """`swept`: of the runs the load grows, and all else is alike. `repeated`: a name, and in which intervals figures of
    its repeated runs lie."""
    parts: list[str] = []
    if len(runs) > 1:
        pictures = [*plots.curves(runs, swept), *plots.distributions(runs)]
        parts += ["<h2>All runs</h2>", _table(*overview(runs))]
        for name, header, rows in repeated:
            parts += [f"<h3>{escape(name)}</h3>" if name else "", _table(header, rows)]
        parts.append(_plots(pictures))
    for run in runs:
        parts.append(f"<h2>{escape(run.name or 'The run')}</h2>")
        parts.append(_facts([*run.about, *table.head(run.summary)]))
        for header, rows in (table.latencies(run.summary), table.others(run.summary), table.kept(run.summary)):
            parts.append(_table(header, rows) if rows else "")
        alone = [] if len(runs) > 1 else plots.distributions(runs)
        parts.append(_plots([*plots.over_time(run), *plots.server(run), *alone]))
    return _whole(title, parts)


def comparison(title: str, results: Sequence[Result]) -> str:
    """Of results that lie there already, whichever tools they are of."""
    from skerry.bench.report.compare import changes, side_by_side  # 1 MiB, of which a run has no use

    parts = [_table(*side_by_side(results))]
    if len(results) == 2:
        parts += ["<h2>What differs</h2>", _table(*changes(results[0], results[1]))]
    samples = {
        metric: [(each.label, each.samples[metric]) for each in results if metric in each.samples]
        for metric in plots.TITLES
    }
    return _whole(title, [*parts, _plots(plots.cumulative(samples))])


def _whole(title: str, parts: Sequence[str]) -> str:
    view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
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


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="table"><table class="facts">{lines}</table></div>'


def _table(header: Row, rows: Sequence[Row]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        "<tr>" + "".join(f"<td{' class=no' if cell == 'NO' else ''}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    return f'<div class="table"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def _plots(pictures: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(each for each in pictures if each)}</div>'
