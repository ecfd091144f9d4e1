"""What `skerry top` shows of a look at the whole cloud, as lines of text: the same on a terminal and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skerry.cli.amount_view import bar, gpus
from skerry.cli.output import human_size, part, plain

HEADINGS = (
    "SERVICE",
    "STATUS",
    "READY",
    "IN FLIGHT",
    "WAITING",
    "REQ/S",
    "ERR/S",
    "TOKENS/S",
    "TTFT P50",
    "P99",
    "CACHE",
)
BAD = {"unhealthy": "red", "degraded": "yellow", "provisioning": "yellow"}


@dataclass(frozen=True)
class Look:
    """JSON of the API."""

    services: list[Any]
    nodes: list[Any]
    jobs: dict[str, int]
    """By state, of those that have not ended."""

    def json(self) -> dict[str, Any]:
        return {
            "services": [
                {
                    "name": each["name"],
                    "project": each["project"],
                    "status": each["status"],
                    "ready": each["ready"],
                    "wanted": each["wanted"],
                    **part(each, "signals"),
                }
                for each in self.services
            ],
            "nodes": [
                {
                    "name": each["name"],
                    "state": each["state"],
                    "cpu": each["cpu"],
                    "memory_bytes": each["memory_bytes"],
                    "gpu": gpus(each),
                    "used": part(each, "used"),
                    "running": each.get("running", 0),
                    "sandboxes": each.get("sandboxes", 0),
                }
                for each in self.nodes
            ],
            "jobs": self.jobs,
        }


def row(service: Any, ready: str) -> list[str]:
    signals = part(service, "signals")
    state = service["state"] if service["state"] != "active" else service["status"]
    if not signals:
        return [service["name"], state, ready, *["-"] * (len(HEADINGS) - 3)]
    cache = signals.get("cache_use")
    return [
        service["name"],
        state,
        ready,
        str(signals["in_flight"]),
        str(signals["waiting"]),
        f"{signals['requests_per_s']:.1f}",
        f"{signals['errors_per_s']:.1f}",
        f"{signals['tokens_per_s']:.0f}",
        milliseconds(signals.get("ttft_p50_s")),
        milliseconds(signals.get("ttft_p99_s")),
        "-" if cache is None else f"{cache * 100:.0f}%",
    ]


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f}s" if seconds >= 10 else f"{seconds * 1000:.0f}ms"


def totals(look: Look) -> list[str]:
    """The lines above the table."""
    running = sum(each.get("running", 0) for each in look.nodes)
    sandboxes = sum(each.get("sandboxes", 0) for each in look.nodes)
    ready = sum(each["state"] == "ready" for each in look.nodes)
    jobs = ", ".join(f"{count} {state}" for state, count in look.jobs.items() if count) or "none"
    lines = [f"nodes {ready} of {len(look.nodes)} ready   sandboxes {running} of {sandboxes} placed   jobs {jobs}"]
    used = [part(each, "used") for each in look.nodes]
    if look.nodes:
        cpu = bar(sum(each.get("cpu", 0) for each in used), sum(each["cpu"] for each in look.nodes))
        memory = bar(
            sum(each.get("memory_bytes", 0) for each in used),
            sum(each["memory_bytes"] for each in look.nodes),
            human_size,
        )
        lines += [f"cpu    {cpu} promised", f"memory {memory} promised"]
    if there := sum(map(gpus, look.nodes)):
        lines.append(f"gpu    {bar(sum(each.get('gpu', 0) for each in used), there)} promised")
    return lines


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, numbers to the right."""
    cells = [list(HEADINGS), *([plain(cell) for cell in each] for each in rows)]
    widths = [max(len(each[at]) for each in cells) for at in range(len(HEADINGS))]
    return [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(each, widths, strict=True))
        ).rstrip()
        for each in cells
    ]
