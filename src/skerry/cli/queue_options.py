"""A queue's rules as flags; `create` and `update` share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from skerry.cli.demand_options import selector
from skerry.cli.options import DURATION, label_pairs

F = TypeVar("F", bound=Callable[..., Any])

RESETS: dict[str, tuple[str, Any]] = {
    "nodes": ("nodes", {}),
    "aging": ("aging_s", None),
    "half-life": ("half_life_s", None),
    "running-max": ("running_max", None),
    "max-duration": ("max_duration", None),
    "cpu-overcommit": ("cpu_overcommit", {}),
    "memory-overcommit": ("memory_overcommit", {}),
    "labels": ("labels", {}),
}
"""What --reset makes of which field."""
QUOTA_HELP = (
    "project=P[,user=U][,guaranteed.cpu=8][,limit.memory=64GiB][,limit.gpu_kinds.h100=2][,weight=2][,running_max=10]"
    "[,pending_max=100]: what its people may have. Repeat."
)

_OPTIONS = (
    click.option(
        "--node", multiple=True, metavar="KEY=VALUE", help="Label of its nodes; KEY=!VALUE: of none [all]. Repeat."
    ),
    click.option("--policy", type=click.Choice(["fifo", "priority", "fair-share"]), help="Who is next [fair-share]."),
    click.option(
        "--strategy",
        type=click.Choice(["pack", "spread", "fragmentation", "auto"]),
        help="Which of the nodes where it fits [auto].",
    ),
    click.option("--backfill/--no-backfill", default=None, help="Let work pass that delays nobody [on]."),
    click.option("--preemption/--no-preemption", default=None, help="Stop work to make room [on]."),
    click.option("--grace", type=DURATION, metavar="TIME", help="What is stopped has so long to end [30s]."),
    click.option("--minimum-run", type=DURATION, metavar="TIME", help="What has run for less is left alone [1m]."),
    click.option("--budget", type=int, metavar="N", help="Stopped in an hour, at most [1000]."),
    click.option("--aging", type=DURATION, metavar="TIME", help="Waiting so long is one point of priority [1h]."),
    click.option("--half-life", type=DURATION, metavar="TIME", help="What was used so long ago counts half [1d]."),
    click.option("--small-share", type=float, metavar="PART", help="Part that large work may not fill [0.1]."),
    click.option("--pending-max", type=int, metavar="N", help="May wait in it [10000]."),
    click.option("--running-max", type=int, metavar="N", help="May run at once [any]."),
    click.option("--max-duration", type=DURATION, metavar="TIME", help="Longest that work may ask for [any]."),
    click.option("--quota", multiple=True, metavar="KEY=VALUE,…", help=QUOTA_HELP),
    click.option("--cpu-overcommit", multiple=True, metavar="TIER=FACTOR", help="Cores promised per real one. Repeat."),
    click.option("--memory-overcommit", multiple=True, metavar="TIER=FACTOR", help="Likewise of memory. Repeat."),
    click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat."),
)


def queue_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def options_from(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a QueueSpec that were given. Values are the server's to judge."""
    plain = ("policy", "strategy", "backfill", "small_share", "pending_max", "running_max", "max_duration")
    preemption = {
        "enabled": options["preemption"],
        "grace_s": options["grace"],
        "minimum_run_s": options["minimum_run"],
        "budget_per_hour": options["budget"],
    }
    found: dict[str, Any] = {name: options[name] for name in plain} | {
        "aging_s": options["aging"],
        "half_life_s": options["half_life"],
        "nodes": selector(options["node"]) or None,
        "preemption": {name: value for name, value in preemption.items() if value is not None} or None,
        "quotas": [quota_from_text(text) for text in options["quota"]] or None,
        "cpu_overcommit": _factors(options["cpu_overcommit"]) or None,
        "memory_overcommit": _factors(options["memory_overcommit"]) or None,
        "labels": label_pairs(options["label"]) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def quota_from_text(text: str) -> dict[str, Any]:
    """`project=p,user=u,limit.cpu=8` -> the fields of a Quota; a dot leads into guaranteed, limit and their kinds."""
    quota: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise click.UsageError(f"{item!r} in a quota is not KEY=VALUE, such as limit.cpu=8")
        *way, last = key.split(".", 2)
        here = quota
        for word in way:
            here = here.setdefault(word, {})
        here[last] = value if last in ("project", "user", "memory") else _number(value, item)
    return quota


def _number(value: str, item: str) -> float:
    try:
        found = float(value)
    except ValueError:
        raise click.UsageError(f"{item!r} in a quota is not a number") from None
    return int(found) if found.is_integer() else found


def _factors(given: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given:
        tier, _, factor = text.partition("=")
        try:
            found[tier] = float(factor)
        except ValueError:
            raise click.UsageError(f"{text!r} is not TIER=FACTOR, such as free=4") from None
    return found
