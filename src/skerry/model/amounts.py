"""Amounts as people read them; without pydantic, since the command line must start at once."""

from __future__ import annotations


def format_size(size_bytes: int) -> str:
    """1536 -> "1.5KiB"; for people, so at most three digits and a binary unit."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1024
    raise AssertionError("unreachable")


def amount_of(resource: str, amount: int) -> str:
    """`1.5 cores`, `512MiB of memory`, `1 accelerator`: of what is counted as the scheduler counts it, cores and
    devices by their thousandths."""
    if resource in _THOUSANDTHS:
        return f"{amount / 1000:g} {_THOUSANDTHS[resource]}" + ("" if amount == 1000 else "s")
    return f"{format_size(amount)} of {resource}" if resource in _BYTES else f"{amount} {resource}"


_THOUSANDTHS = {"cpu": "core", "gpu": "accelerator"}
_BYTES = frozenset({"memory", "disk", "gpu-memory"})
