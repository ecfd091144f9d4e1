"""Trials of a search or a sweep, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from skerry.bench.report.table import Row
from skerry.bench.report.words import number
from skerry.bench.search import Trial

COLUMNS = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("tpot", "p99"), ("e2e", "p99"))


def rows(of: str, trials: Sequence[Trial]) -> tuple[Row, list[Row]]:
    header = (of, "kept", "requests", "requests/s", "tokens/s", *(f"{name} {at}" for name, at in COLUMNS), "failed")
    found: list[Row] = []
    for each in trials:
        metrics, rates = each.summary.metrics, each.summary.rates
        cells = [f"{number(metrics[n].percentiles[at] * 1000)} ms" if n in metrics else "-" for n, at in COLUMNS]
        kept = "-" if not each.summary.objectives else "yes" if each.kept else "stopped" if each.stopped else "no"
        first = [number(rates.get(f"{name}_per_second", 0.0)) for name in ("requests", "output_tokens")]
        failed = f"{rates.get('error_rate', 0.0):.1%}"
        found.append((f"{each.load:.4g}", kept, f"{each.summary.requests:,}", *first, *cells, failed))
    return header, found


def document(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [
        {"load": each.load, "kept": each.kept, "stopped": each.stopped, "summary": asdict(each.summary)}
        for each in trials
    ]
