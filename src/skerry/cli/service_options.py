"""A service's spec as flags, in the words of `skerry job submit` and docker where they have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from skerry.cli.demand_options import demand_from, demand_options
from skerry.cli.options import DURATION, env_pairs, label_pairs
from skerry.cli.spec_options import mount
from skerry.client.calls.networks import join_from_text
from skerry.client.calls.secrets import use_from_text
from skerry.client.calls.services import ENGINES, POLICIES, STRATEGIES
from skerry.client.modelfile import typed

PLAIN = (
    "image",
    "engine",
    "model",
    "port",
    "replicas",
    "cpu",
    "memory",
    "disk",
    "pids",
    "user",
    "workdir",
    "drain",
    "fork",
)
"""Options that are fields as they stand."""
SIGNALS = ("in-flight", "queue", "tokens-per-second", "ttft", "tpot", "cache", "gpu", "cpu", "custom:METRIC")

F = TypeVar("F", bound=Callable[..., Any])

_TIME: Any = {"type": DURATION, "metavar": "TIME"}
_OPTIONS = (
    click.option("--image", metavar="IMAGE", help="What it runs in [the engine's]."),
    click.option("--engine", type=click.Choice(ENGINES), help="Model server that it is [command]."),
    click.option("--model", metavar="SOURCE", help="Folder in the image, VOLUME:/path, hf://…, s3://…, oci://…."),
    click.option("--model-name", multiple=True, metavar="NAME", help="What clients give as model [its name]. Repeat."),
    click.option("--adapter", multiple=True, metavar="NAME=SOURCE", help="LoRA adapter. Repeat."),
    click.option("--option", "-o", multiple=True, metavar="NAME=VALUE", help="Option of the engine. Repeat."),
    click.option("--prepare", multiple=True, metavar="LINE", help="Line for /bin/sh that is run before it. Repeat."),
    click.option("--fork/--no-fork", default=None, help="Start replicas from the disk of the first healthy one [no]."),
    click.option("--shell", "-c", "line", metavar="LINE", help="In place of a command: a line for /bin/sh."),
    click.option("--address", multiple=True, metavar="URL", help="A server that is there already. Repeat."),
    click.option("--port", type=int, metavar="PORT", help="Where it listens [the engine's]."),
    click.option("--replicas", "-r", type=int, metavar="N", help="How many [1]."),
    click.option("--role", multiple=True, metavar="ROLE=N", help="So many for prefill, decode or both. Repeat."),
    click.option("--minimum", type=int, metavar="N", help="Scale it by itself, with at least so many; 0: it sleeps."),
    click.option("--maximum", type=int, metavar="N", help="The same, with at most so many [8]."),
    click.option(
        "--target", multiple=True, metavar="SIGNAL=N", help=f"What a replica should have: {', '.join(SIGNALS)}. Repeat."
    ),
    click.option("--no-scaling", is_flag=True, help="As many as --replicas says, and not by itself any more."),
    click.option("--idle", **_TIME, help="With --minimum 0: asleep after so long without a request [5m]."),
    click.option("--health", metavar="PATH", help="It is healthy when this path answers [somebody listens]."),
    click.option("--health-interval", **_TIME, help="Between two looks [10s]."),
    click.option("--health-retries", type=int, metavar="N", help="Failed looks that make it unhealthy [10]."),
    click.option("--health-delay", **_TIME, help="Time that it has to start [60s]."),
    click.option("--policy", type=click.Choice(POLICIES), help="How a replica is chosen for a request [auto]."),
    click.option("--per-replica", type=int, metavar="N", help="Requests that a replica is given at once."),
    click.option("--strategy", type=click.Choice(STRATEGIES), help="How a new revision takes over [rolling]."),
    click.option("--weight", type=int, metavar="PERCENT", help="Of the traffic, for a canary [10]."),
    click.option("--surge", type=int, metavar="N", help="More than wanted while replacing [1]."),
    click.option("--unavailable", type=int, metavar="N", help="Fewer that serve while replacing [0]."),
    click.option("--drain", **_TIME, help="What a replica has to end what it has begun [60s]."),
    click.option("--public/--private", default=None, help="Whether everybody may use it, without a token [private]."),
    click.option("--cpu", "--cpus", "cpu", type=float, metavar="CORES", help="Ceiling on cores, of each replica [1]."),
    click.option("--memory", "-m", metavar="SIZE", help="Ceiling on memory, of each replica [1GiB]."),
    click.option("--disk", metavar="SIZE", help="What each may write on top of its image [10GiB]."),
    click.option("--pids", type=int, metavar="N", help="Ceiling on processes [1024]."),
    click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone takes yours. Repeat."),
    click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE", help="Lines of KEY=VALUE."),
    click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat."),
    click.option(
        *("--mount", "--volume", "-v", "mount"),
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="Volume by name, or folder of the server by path. Repeat.",
    ),
    click.option("--secret", multiple=True, metavar="NAME[=VAR|:/PATH]", help="Secret that it gets. Repeat."),
    click.option("--network/--no-network", "network", default=None, help="Internet access [on]."),
    click.option("--join", multiple=True, metavar="NETWORK", help="Private network to be in. Repeat."),
    click.option("--user", "-u", metavar="USER[:GROUP]", help="User it runs as [the image's, else root]."),
    click.option("--workdir", "-w", metavar="PATH", help="Working folder [the image's, else /]."),
)


def service_options(function: F) -> F:
    function = demand_options("production")(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def service_from(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """What was given of a ServiceSpec, as JSON. Values are the server's to judge."""
    line = options.pop("line")
    if line is not None and command:
        raise click.UsageError("give a command behind --, or a line for the shell with -c, and not both")
    body: dict[str, Any] = {name: value for name in PLAIN if (value := options.pop(name)) is not None}
    if line is not None or command:
        body["command"] = ["/bin/sh", "-c", line] if line is not None else list(command)
    network = options.pop("network")
    found: dict[str, Any] = {
        **demand_from(options),
        "models": list(options.pop("model_name")),
        "adapters": _pairs(options.pop("adapter"), "--adapter", "NAME=SOURCE"),
        "options": {
            name: typed(text) for name, text in _pairs(options.pop("option"), "--option", "NAME=VALUE").items()
        },
        "prepare": [["/bin/sh", "-c", step] for step in options.pop("prepare")],
        "addresses": list(options.pop("address")),
        "roles": _numbers(options.pop("role"), "--role", int),
        "scaling": _scaling(options),
        "health": _given(
            options,
            path="health",
            interval="health_interval",
            max_retries="health_retries",
            initial_delay="health_delay",
        ),
        "routing": _routing(options),
        "strategy": _given(options, type="strategy", weight="weight", surge="surge", unavailable="unavailable"),
        "env": env_pairs(options.pop("env"), options.pop("env_file")),
        "labels": label_pairs(options.pop("label")),
        "mounts": [mount(text) for text in options.pop("mount")],
        "secrets": [use_from_text(text) for text in options.pop("secret")],
        "networks": [join_from_text(text) for text in options.pop("join")],
        "network": None if network is None else {"enabled": network},
    }
    if options.pop("no_scaling"):
        if found["scaling"]:
            raise click.UsageError("--no-scaling: give it, or what it is to be scaled by, and not both")
        body["scaling"] = None
    if (public := options.pop("public")) is not None:
        body["public"] = public
    return body | {name: value for name, value in found.items() if value}


def _given(options: dict[str, Any], **names: str) -> dict[str, Any]:
    return {field: value for field, name in names.items() if (value := options.pop(name)) is not None}


def _routing(options: dict[str, Any]) -> dict[str, Any]:
    found = _given(options, policy="policy")
    if (per_replica := options.pop("per_replica")) is not None:
        found["holding"] = {"per_replica": per_replica}
    return found


def _scaling(options: dict[str, Any]) -> dict[str, Any]:
    found = _given(options, minimum="minimum", maximum="maximum", idle="idle")
    targets = _numbers(options.pop("target"), "--target", float)
    if targets:
        found["targets"] = [_target(signal, value) for signal, value in targets.items()]
    return found


def _target(signal: str, value: float) -> dict[str, Any]:
    kind, colon, metric = signal.partition(":")
    return {"signal": kind, "value": value} | ({"metric": metric} if colon else {})


def _pairs(given: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{option} {text!r}: give {form}")
        found[name] = value
    return found


def _numbers(given: tuple[str, ...], option: str, kind: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _pairs(given, option, "NAME=NUMBER").items():
        try:
            found[name] = kind(value)
        except ValueError:
            raise click.UsageError(f"{option} {name}={value}: {value!r} is no number") from None
    return found
