"""What work asks of a machine besides cores, memory and disk, and how it waits for one, as flags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

TIERS = ("free", "best-effort", "mid", "production", "monitoring")

F = TypeVar("F", bound=Callable[..., Any])


def demand_options(tier: str) -> Callable[[F], F]:
    """`tier`: what it is if nobody says otherwise."""
    options = (
        click.option(
            "--gpu", "--gpus", "gpu", type=float, metavar="N", help="Accelerators: 2, or a share such as 0.5."
        ),
        click.option("--gpu-kind", multiple=True, metavar="KIND", help="Kind it runs on, such as h100 [any]. Repeat."),
        click.option("--gpu-memory", metavar="SIZE", help="Memory on each [its share of what the device has]."),
        click.option("--extra", multiple=True, metavar="NAME=N", help="Whatever else nodes count. Repeat."),
        click.option("--queue", metavar="NAME", help="Where it waits [default]."),
        click.option("--tier", type=click.Choice(TIERS), help=f"Who may take whose place [{tier}]."),
        click.option("--priority", type=int, metavar="0-100", help="Within its tier; more is sooner [50]."),
        click.option(
            "--node-selector",
            multiple=True,
            metavar="KEY=VALUE",
            help="Label that its nodes have; KEY=!VALUE: have not; KEY alone: any value. Repeat: one of the values.",
        ),
        click.option(
            "--toleration",
            "--tolerate",
            multiple=True,
            metavar="KEY[=VALUE]",
            help="Taint it may run beside. Repeat.",
        ),
        click.option(
            "--near",
            multiple=True,
            metavar="LABEL=VALUE[@TOPOLOGY]",
            help="Be where sandboxes with this label are: on one node, or in one place by this label of nodes. Repeat.",
        ),
        click.option("--away", multiple=True, metavar="LABEL=VALUE[@TOPOLOGY]", help="Be where they are not. Repeat."),
        click.option("--arch", metavar="ARCH", help="Machine architecture, such as aarch64 [the server's]."),
    )

    def wrap(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return wrap


def demand_from(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a spec; takes what it knows out of `options`. Values are the server's to judge."""
    found: dict[str, Any] = {name: options.pop(name) for name in ("gpu", "gpu_memory", "queue", "tier", "priority")} | {
        "gpu_kind": list(options.pop("gpu_kind")) or None,
        "extras": _counts(options.pop("extra")) or None,
        "placement": {
            name: value
            for name, value in (
                ("nodes", selector(options.pop("node_selector"))),
                ("tolerations", list(options.pop("toleration"))),
                ("near", [_affinity(text) for text in options.pop("near")]),
                ("away", [_affinity(text) for text in options.pop("away")]),
                ("arch", options.pop("arch")),
            )
            if value
        }
        or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def selector(given: Iterable[str]) -> dict[str, list[str]]:
    """KEY=VALUE, … -> label -> values; KEY alone is any value."""
    found: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key:
            raise click.UsageError(f"{text!r} is not KEY=VALUE")
        found.setdefault(key, []).extend([value] if equals else [])
    return found


def _affinity(text: str) -> dict[str, Any]:
    wanted, at, topology = text.partition("@")
    key, equals, value = wanted.partition("=")
    if not key or not equals or (at and not topology):
        raise click.UsageError(f"{text!r} is not LABEL=VALUE or LABEL=VALUE@TOPOLOGY, such as app=db@rack")
    return {"labels": {key: value}, **({"topology": topology} if at else {})}


def _counts(given: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        name, _, count = text.partition("=")
        if not name or not count.isdigit():
            raise click.UsageError(f"{text!r} is not NAME=N, such as licenses=2")
        found[name] = int(count)
    return found
