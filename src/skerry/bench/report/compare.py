"""Runs beside each other: one table of figures, and where there are two, which differences are real."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.bench.measure.significance import differences, ranks_p
from skerry.bench.report.table import Row
from skerry.bench.report.words import SECONDS, number
from skerry.bench.results import Result

SHOWN = ("requests_per_second", "output_tokens_per_second", "error_rate", "goodput")
METRICS = ("ttft", "tpot", "itl", "e2e", "intended_ttft")


def side_by_side(results: Sequence[Result]) -> tuple[Row, list[Row]]:
    header = ("", *(each.label for each in results), "")
    names = [*SHOWN, *(f"{metric}_{at}" for metric in METRICS for at in ("mean", "p50", "p90", "p99"))]
    rows: list[Row] = []
    for name in names:
        if any(name in each.figures for each in results):
            in_ms = name.rpartition("_")[0] in SECONDS
            cells = [_cell(each.figures.get(name), in_ms) for each in results]
            rows.append((name, *cells, "ms" if in_ms else ""))
    return header, rows


def _cell(value: float | None, in_ms: bool) -> str:
    return "-" if value is None else number(value * 1000 if in_ms else value)


def changes(before: Result, after: Result) -> tuple[Row, list[Row]]:
    header = ("", before.name, after.name, "change", "95 % of it between", "", "p of ranks")
    rows: list[Row] = []
    for metric in METRICS:
        if metric not in before.samples or metric not in after.samples:
            continue
        first, second = before.samples[metric], after.samples[metric]
        p = ranks_p(first, second)
        for each in differences(first, second):
            between = f"{number(each.least * 1000)} and {number(each.most * 1000)} ms"
            told = "-" if not each.is_real else "slower" if each.after > each.before else "faster"
            told = told if each.enough else "too few"
            values = (number(each.before * 1000), number(each.after * 1000), f"{each.share:+.1%}")
            rows.append((f"{metric}_{each.at}", *values, between, told, f"{p:.2g}"))
    return header, rows


def worse(before: Result, after: Result, metrics: Sequence[str] = ("ttft", "tpot", "e2e")) -> list[str]:
    """Those whose median or 99th percentile is really larger: for gates."""
    found: list[str] = []
    for metric in metrics:
        if metric in before.samples and metric in after.samples:
            for each in differences(before.samples[metric], after.samples[metric]):
                if each.is_real and each.after > each.before:
                    found.append(f"{metric}_{each.at}")
    return found
