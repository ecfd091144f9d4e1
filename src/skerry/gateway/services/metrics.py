"""What Prometheus reads: /metrics on the gateway's own socket, and at its door for who may."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.gateway.services.meter import Histogram
from skerry.gateway.services.service import Service

_HELP = {
    "requests_total": ("counter", "Requests to services, by the status of their answer."),
    "retries_total": ("counter", "Times that another replica was asked, before anything of an answer was passed on."),
    "ejections_total": ("counter", "Times that a replica was left out because it failed."),
    "tokens_total": ("counter", "Tokens of prompts (input), of those the ones found in a cache, and of answers."),
    "in_flight": ("gauge", "Requests at replicas now."),
    "waiting": ("gauge", "Requests that wait for a replica."),
    "replicas": ("gauge", "Replicas in the routes, by whether they are given requests."),
    "replica_in_flight": ("gauge", "Requests at each replica."),
    "time_to_first_token_seconds": ("histogram", "From a request's head to the first byte of its answer."),
    "time_per_output_token_seconds": ("histogram", "Of streams: between two tokens, the mean of each answer."),
    "request_duration_seconds": ("histogram", "From a request's head to the end of its answer."),
}


def exposition(services: Iterable[Service], connections: int) -> str:
    """In Prometheus' text format."""
    rows: dict[str, list[str]] = {name: [] for name in _HELP}

    def add(name: str, value: float, **labels: str) -> None:
        rows[name].append(_row(name, value, labels))

    for service in services:
        told = {"service": service.route.name, "project": service.route.project}
        counts = service.counts
        for status, count in counts.by_status.items():
            add("requests_total", count, **told, code=str(status))
        add("retries_total", counts.retries, **told)
        add("ejections_total", service.ejections, **told)
        for kind, count in (
            ("input", counts.prompt_tokens),
            ("cached", counts.cached_tokens),
            ("output", counts.completion_tokens),
        ):
            add("tokens_total", count, **told, type=kind)
        add("in_flight", service.in_flight, **told)
        add("waiting", service.waiting, **told)
        out = sum(1 for each in service.replicas.values() if each.ejected_until_s)
        add("replicas", len(service.replicas) - out, **told, state="open")
        add("replicas", out, **told, state="ejected")
        for replica in service.replicas.values():
            add("replica_in_flight", replica.candidate.in_flight, **told, replica=replica.id)
        for name, histogram in (
            ("time_to_first_token_seconds", counts.first),
            ("time_per_output_token_seconds", counts.each),
            ("request_duration_seconds", counts.whole),
        ):
            rows[name] += _rows(name, histogram, told)
    lines: list[str] = []
    for name, (kind, text) in _HELP.items():
        lines += [f"# HELP skerry_gateway_{name} {text}", f"# TYPE skerry_gateway_{name} {kind}", *rows[name]]
    lines += [
        "# HELP skerry_gateway_connections Connections of callers.",
        "# TYPE skerry_gateway_connections gauge",
        f"skerry_gateway_connections {connections}",
    ]
    return "\n".join(lines) + "\n"


def _rows(name: str, histogram: Histogram, labels: dict[str, str]) -> list[str]:
    below = 0
    rows: list[str] = []
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        below += count
        rows.append(_row(f"{name}_bucket", below, {**labels, "le": bound}))
    return [*rows, _row(f"{name}_sum", histogram.total, labels), _row(f"{name}_count", histogram.count, labels)]


def _row(name: str, value: float, labels: dict[str, str]) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return (
        f"skerry_gateway_{name}{{{told}}} {value:g}"
        if isinstance(value, float)
        else (f"skerry_gateway_{name}{{{told}}} {value}")
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
