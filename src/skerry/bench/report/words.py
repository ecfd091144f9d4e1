"""Numbers as people read them."""

from __future__ import annotations

SECONDS = frozenset(
    {"ttft", "ttfct", "tpot", "itl", "ntpot", "e2e", "output_latency", "intended_ttft", "intended_e2e", "drift"}
)


def number(value: float) -> str:
    """Three digits that mean something."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def unit(metric: str) -> str:
    if metric in SECONDS:
        return "ms"
    return "tokens/s" if metric.endswith("_throughput") else "tokens"


def shown(metric: str, value: float) -> str:
    return number(value * 1000 if metric in SECONDS else value)
