"""Health as flags, of a service and of a sandbox alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--health-http", metavar="PATH", help="It is healthy when this path on its port answers."),
    click.option("--health-command", metavar="COMMAND", help="It is healthy when this shell command ends well."),
    click.option("--health-interval", metavar="TIME", help="Between two looks [10s]."),
    click.option("--health-timeout", metavar="TIME", help="For one look [5s]."),
    click.option("--health-retries", type=int, metavar="N", help="Failed looks that make it unhealthy [3]."),
    click.option("--health-restart", is_flag=True, help="Start it again when it is unhealthy."),
)
port_option = click.option("--health-port", type=int, metavar="PORT", help="It is healthy when somebody listens there.")
"""Of a sandbox: a service has a port of its own."""


def health_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def health_from(options: dict[str, Any]) -> dict[str, Any]:
    """The JSON of it, {} where nothing was given; takes what it knows out of `options`."""
    given = {
        key: options.pop(f"health_{key}", None) for key in ("http", "port", "interval", "timeout", "retries", "restart")
    }
    health = {key: value for key, value in given.items() if value not in (None, False)}
    if text := options.pop("health_command"):
        health["command"] = ["/bin/sh", "-c", text]
    if health and "http" not in health and "command" not in health:
        health["tcp"] = True
    return health
