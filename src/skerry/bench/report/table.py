"""A summary as rows of words: for the terminal and for Markdown, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry.bench.measure.summary import Summary
from skerry.bench.report.words import number, shown, unit

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
LATENCIES = ("ttft", "ttfct", "tpot", "itl", "ntpot", "e2e", "intended_ttft", "intended_e2e", "drift")
OTHERS = ("input_tokens", "output_tokens", "cached_tokens", "input_throughput", "output_throughput")

FAIR = 0.9995
"""Above, there is nothing to tell."""

Row = tuple[str, ...]


def head(summary: Summary) -> list[tuple[str, str]]:
    """What a run came to, in a line each."""
    rates = summary.rates
    most = rates.get("concurrency_max", 0.0)
    found = [
        ("requests", f"{summary.requests:,} in {summary.seconds:.1f} s, {summary.failed:,} failed"),
        ("requests per second", number(rates.get("requests_per_second", 0.0))),
        ("tokens per second", f"{_rate(summary, 'input_tokens')} in, {_rate(summary, 'output_tokens')} out"),
        ("requests at once", f"{_rate(summary, 'concurrency_mean', '')} on average, {most:.0f} at most"),
    ]
    if (counted := rates.get("counted_share", 1.0)) < 1:
        by = "what comes as events, or what --tokenizer finds, stands for tokens"
        found.append(("usage", f"the server counted tokens of {counted:.1%} of the answers; of the others {by}"))
    if rates.get("cached_share"):
        found.append(("cached", f"{rates['cached_share']:.1%} of prompt tokens"))
    if (fairness := rates.get("fairness", 1.0)) < FAIR:
        whom = f"{rates['users']:,.0f} users" if "users" in rates else "conversations"
        found.append(("fairness", f"{fairness:.3f} over {whom} (Jain's index: 1 where all are served alike)"))
    if "joules_per_token" in rates:
        found.append(("energy", f"{number(rates['joules_per_token'])} J for a token out"))
    if "cost_per_million_tokens" in rates:
        found.append(("cost", f"{rates['cost_per_million_tokens']:.4f} for a million tokens, in and out"))
    if summary.server:
        told = [_server(name, each) for name, each in summary.server.items()]
        found.append(("server", "; ".join(told)))
    if summary.objectives:
        share = rates.get("goodput_share", 0.0)
        found.append(("goodput", f"{number(rates.get('goodput', 0.0))} requests per second, {share:.1%} of all"))
    if summary.faults:
        found.append(("failed", ", ".join(f"{count} {fault}" for fault, count in sorted(summary.faults.items()))))
        found.append(("", "; ".join(summary.says)[:300]))
    return found


def _server(name: str, value: Mapping[str, float] | float) -> str:
    if isinstance(value, float | int):
        return f"{name} {number(value)}"
    return f"{name} {number(value['mean'])} on average, {number(value['max'])} at most"


def _rate(summary: Summary, name: str, per: str = "_per_second") -> str:
    return number(summary.rates.get(f"{name}{per}", 0.0))


def latencies(summary: Summary) -> tuple[Row, list[Row]]:
    return ("", *COLUMNS, ""), _rows(summary, LATENCIES)


def others(summary: Summary) -> tuple[Row, list[Row]]:
    return ("", *COLUMNS, ""), _rows(summary, OTHERS)


def _rows(summary: Summary, names: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        spread = summary.metrics.get(name)
        if spread is None or (name == "cached_tokens" and not spread.max):
            continue
        values = {"mean": spread.mean, "max": spread.max, **spread.percentiles}
        rows.append((name, *(shown(name, values[column]) for column in COLUMNS), unit(name)))
    return rows


def kept(summary: Summary) -> tuple[Row, list[Row]]:
    rows = [
        (each.text, "-" if each.value is None else _value(each.text, each.value), "yes" if each.kept else "NO",
         f"{each.share:.1%}")
        for each in summary.objectives
    ]  # fmt: skip
    return ("objective", "measured", "kept", "requests that keep it"), rows


def _value(text: str, value: float) -> str:
    return f"{number(value * 1000)} ms" if text.endswith(("ms", "s")) else number(value)


def aligned(header: Row, rows: Sequence[Row]) -> list[str]:
    every = [header, *rows]
    widths = [max(len(row[at]) for row in every) for at in range(len(header))]
    lines: list[str] = []
    for row in every:
        cells = [row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in range(1, len(row)))]
        lines.append("  ".join(cells).rstrip())
    return lines


def markdown(header: Row, rows: Sequence[Row]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)]
