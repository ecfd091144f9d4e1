"""A job's spec as flags, in the words of Slurm and docker where they have one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from skerry.cli.demand_options import demand_from, demand_options
from skerry.cli.options import DURATION, env_pairs, label_pairs
from skerry.cli.spec_options import mount
from skerry.client.calls.jobs import dependency_from_text
from skerry.client.calls.networks import join_from_text
from skerry.client.calls.secrets import use_from_text
from skerry.errors import Invalid

IMAGE = "debian:12"
WORKSPACE = "/workspace"
WHEN = ("started", "succeeded", "failed", "cancelled", "finished", "retrying", "preempted")
PLAIN = (
    "name",
    "cpu",
    "memory",
    "disk",
    "pids",
    "nodes",
    "nodes_min",
    "parallel",
    "user",
    "workdir",
    "output",
    "port",
    "timeout",
    "max_duration",
    "grace_s",
    "keep_s",
)
"""Options that are fields as they stand."""

F = TypeVar("F", bound=Callable[..., Any])

_TIME: Any = {"type": DURATION, "metavar": "TIME"}
_OPTIONS = (
    click.option("--image", metavar="IMAGE", help=f"What it runs in [SKERRY_IMAGE, else {IMAGE}]."),
    click.option("--name", metavar="NAME", help="Name of the job [we choose one]."),
    click.option("--shell", "-c", "line", metavar="LINE", help="In place of a command: a line for /bin/sh."),
    click.option("--cpu", "--cpus", "cpu", type=float, metavar="CORES", help="Ceiling on cores, of each member [1]."),
    click.option("--memory", "-m", metavar="SIZE", help="Ceiling on memory, of each member [1GiB]."),
    click.option("--disk", metavar="SIZE", help="What each may write on top of its image [10GiB]."),
    click.option("--pids", type=int, metavar="N", help="Ceiling on processes [1024]."),
    click.option("--nodes", "-N", type=int, metavar="N", help="Members of each task, which start together [1]."),
    click.option("--nodes-min", type=int, metavar="N", help="Members without whom it does not start [all]."),
    click.option("--array", "-a", metavar="INDICES", help="A task for each: 0-9, 1-9:2, 1,4,8; %N: so many at once."),
    click.option(
        "--sweep", multiple=True, metavar="NAME=A,B,…", help="A task for each combination; {NAME} is the value. Repeat."
    ),
    click.option("--parallel", type=int, metavar="N", help="Tasks that run or wait in the queue at once."),
    click.option("--fail-fast", is_flag=True, help="The first task that fails for good cancels the others."),
    click.option("--retries", type=int, metavar="N", help="Tries of a task after the first [0]."),
    click.option("--retry-on", multiple=True, metavar="CODE,…", help="Only after these exit codes [any but 0]."),
    click.option("--backoff", **_TIME, help="Before the first of them; doubled for each that follows [5s]."),
    click.option("--timeout", **_TIME, help="A try that runs longer has failed, with code 124."),
    click.option("--max-duration", **_TIME, help="What a try takes at most: what the queue plans with."),
    click.option("--grace", "grace_s", **_TIME, help="Between TERM and KILL, when it has to end [30s]."),
    click.option("--keep", "keep_s", **_TIME, help="How long its sandboxes stay, stopped, after it [0]."),
    click.option(
        "--depends-on", multiple=True, metavar="JOB[:OUTCOME]", help="Wait until it has succeeded, failed or finished."
    ),
    click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone takes yours. Repeat."),
    click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE", help="Lines of KEY=VALUE."),
    click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat."),
    click.option(
        *("--mount", "--volume", "-v", "mount"),
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="Volume by name, or folder of the server by path. Repeat.",
    ),
    click.option(
        "--folder", type=click.Path(), metavar="PATH", help=f"Show it this folder at {WORKSPACE}, read-only; run there."
    ),
    click.option("--output", metavar="VOLUME", help="Volume that is /output; each task has a folder of its own in it."),
    click.option("--secret", multiple=True, metavar="NAME[=VAR|:/PATH]", help="Secret that it gets. Repeat."),
    click.option("--network/--no-network", "network", default=None, help="Internet access [on]."),
    click.option("--join", multiple=True, metavar="NETWORK", help="Private network to be in. Repeat."),
    click.option("--port", type=int, metavar="PORT", help="MASTER_PORT, where the first of a gang listens [29400]."),
    click.option("--together", metavar="LABEL", help="All members where this label of nodes is one, such as rack."),
    click.option("--user", "-u", metavar="USER[:GROUP]", help="User it runs as [the image's, else root]."),
    click.option("--workdir", "-w", metavar="PATH", help="Working folder [the image's, else /]."),
    click.option("--notify-webhook", multiple=True, metavar="URL", help="POST of JSON to this. Repeat."),
    click.option("--notify-slack", multiple=True, metavar="URL", help="Incoming webhook of Slack or the like. Repeat."),
    click.option("--notify-secret", metavar="NAME", help="Secret that webhooks are signed with."),
    click.option("--on", multiple=True, metavar="EVENT,…", help=f"Of what they tell: {', '.join(WHEN)} [finished]."),
)


def job_options(function: F) -> F:
    function = demand_options("best-effort")(function)
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def job_from(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a JobSpec. Values are the server's to judge."""
    line = options.pop("line")
    if (line is None) == (not command):
        raise click.UsageError("give a command behind --, or a line for the shell with -c, and not both")
    image = options.pop("image") or os.environ.get("SKERRY_IMAGE") or IMAGE
    body: dict[str, Any] = {"image": image, "command": ["/bin/sh", "-c", line] if line is not None else list(command)}
    body |= {name: value for name in PLAIN if (value := options.pop(name)) is not None}
    together = options.pop("together")
    network = options.pop("network")
    found: dict[str, Any] = {
        **_tasks(options),
        **demand_from(options),
        "fail_fast": options.pop("fail_fast"),
        "retry": _retry(options),
        "env": env_pairs(options.pop("env"), options.pop("env_file")),
        "labels": label_pairs(options.pop("label")),
        "mounts": [mount(text) for text in options.pop("mount")],
        "secrets": [use_from_text(text) for text in options.pop("secret")],
        "networks": [join_from_text(text) for text in options.pop("join")],
        "network": None if network is None else {"enabled": network},
        "depends_on": [_dependency(text) for text in options.pop("depends_on")],
        "notify": _notifications(options),
    }
    if together:
        found["placement"] = {**found.get("placement", {}), "together": together}
    if folder := options.pop("folder"):
        # Read-only, so that a hundred tasks do not write each other's files; who wants to write says -v ./:/workspace.
        found["mounts"] = [
            *found["mounts"],
            mount(f"{folder if '/' in folder else f'./{folder}'}:{WORKSPACE}:ro,owner"),
        ]
        body.setdefault("workdir", WORKSPACE)
    return body | {name: value for name, value in found.items() if value}


def _tasks(options: dict[str, Any]) -> dict[str, Any]:
    """An array as Slurm writes it, its %N too; a sweep with its values as they were typed."""
    found: dict[str, Any] = {}
    array = options.pop("array")
    if array is not None:
        found["array"], percent, at_once = array.partition("%")
        if percent and not at_once.isdigit():
            raise click.UsageError(f"--array {array}: behind % stands how many run at once, such as 0-9%4")
        if percent:
            found["parallel"] = int(at_once)
    for text in options.pop("sweep"):
        name, _, values = text.partition("=")
        if not name or not values:
            raise click.UsageError(f"--sweep {text!r}: give NAME=A,B,…, such as lr=0.1,0.01")
        found.setdefault("sweep", {})[name] = values.split(",")
    return found


def _retry(options: dict[str, Any]) -> dict[str, Any]:
    codes = [code for text in options.pop("retry_on") for code in _listed(text)]
    limit, backoff_s = options.pop("retries"), options.pop("backoff")
    if (codes or backoff_s is not None) and not limit:
        raise click.UsageError("--retry-on and --backoff go with --retries N")
    if not all(code.isdigit() for code in codes):
        raise click.UsageError("--retry-on takes exit codes, such as 1,137")
    given = {"limit": limit, "on": [int(code) for code in codes] or None, "backoff_s": backoff_s}
    return {name: value for name, value in given.items() if value is not None}


def _dependency(text: str) -> dict[str, Any]:
    try:
        return dependency_from_text(text)
    except Invalid as error:
        raise click.UsageError(error.say) from None


def _notifications(options: dict[str, Any]) -> list[dict[str, Any]]:
    secret, events = options.pop("notify_secret"), [word for text in options.pop("on") for word in _listed(text)]
    for word in events:
        if word not in WHEN:
            raise click.UsageError(f"--on {word}: there is no such event; give {', '.join(WHEN)}")
    more: dict[str, Any] = {"on": events} if events else {}
    signed: dict[str, Any] = more | ({"secret": secret} if secret else {})
    found = [{"webhook": url, **signed} for url in options.pop("notify_webhook")]
    found += [{"slack": url, **more} for url in options.pop("notify_slack")]
    if (secret or events) and not found:
        raise click.UsageError("--on and --notify-secret go with --notify-webhook or --notify-slack")
    return found


def _listed(text: str) -> Iterable[str]:
    return (word.strip() for word in text.split(",") if word.strip())
