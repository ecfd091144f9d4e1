"""A sandbox's spec as flags, in docker's words where it has one; `create` and `run` share them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from skerry.cli.demand_options import demand_from, demand_options
from skerry.cli.health_options import health_from, health_options, port_option
from skerry.cli.options import DURATION, env_pairs, label_pairs
from skerry.client.calls import policy as policy_calls
from skerry.client.calls.networks import join_from_text
from skerry.client.calls.ports import port_from_text
from skerry.client.calls.sandboxes import mount_from_text
from skerry.client.calls.secrets import use_from_text
from skerry.errors import Invalid

FLAGS = {
    "protect": "protected",
    "self_checkpoint": "self_checkpoint",
    "self_lease": "self_lease",
    "squeeze": "squeeze",
    "public": "public",
}
"""Option -> field."""
PLAIN = (
    "name",
    "hostname",
    "cpu",
    "memory",
    "disk",
    "pids",
    "user",
    "workdir",
    "idle",
    "cold_after",
    "idle_cpu",
    "restart",
)
"""Options that are fields as they stand."""

WHAT = "DOMAIN|CIDR|@PRESET"

F = TypeVar("F", bound=Callable[..., Any])

_POLICY_OPTIONS = (
    click.option("--egress", type=click.Choice(["allow", "deny"]), help="What becomes of all that no rule names."),
    click.option("--allow", multiple=True, metavar=WHAT, help="What it may reach; presets: @dev. Repeat."),
    click.option("--deny", multiple=True, metavar=WHAT, help="What it may not reach. Repeat."),
    click.option("--observe", is_flag=True, help="Keep a log of the names it asks for: `skerry policy log`."),
)

_OPTIONS = (
    click.option("--name", metavar="NAME", help="Name of the sandbox [we choose one]."),
    click.option("--hostname", metavar="NAME", help="Its own name for itself and in its networks [its name]."),
    click.option("--cpu", "--cpus", "cpu", type=float, metavar="CORES", help="Ceiling on processor cores [1]."),
    click.option("--memory", "-m", metavar="SIZE", help="Ceiling on memory, such as 512MiB [1GiB]."),
    click.option("--disk", metavar="SIZE", help="What it may write on top of its image [10GiB]."),
    click.option("--pids", "--pids-limit", "pids", type=int, metavar="N", help="Ceiling on processes [1024]."),
    click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone takes yours. Repeat."),
    click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE", help="Lines of KEY=VALUE."),
    click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat."),
    click.option(
        *("--mount", "--volume", "-v", "mount"),
        multiple=True,
        metavar="SOURCE:TARGET[:ro,owner]",
        help="Volume by name, or folder of the server by path; owner: who owns the folder there and the user it runs "
        "as see each other's files as theirs.",
    ),
    click.option("--network/--no-network", "network", default=None, help="Internet access [on]."),
    click.option("--bandwidth-up", metavar="RATE", help="What it may send, such as 10Mbit [unlimited]."),
    click.option("--bandwidth-down", metavar="RATE", help="What it may receive, such as 50Mbit [unlimited]."),
    click.option(
        *("--publish", "-p", "ports"),
        multiple=True,
        metavar="[IP:][HOST:]GUEST[/udp][,auto]",
        help="Pass a port of the server on to it; without HOST, or with auto where HOST is taken, a free one.",
    ),
    click.option("--join", multiple=True, metavar="NETWORK[:ADDRESS]", help="Private network to be in. Repeat."),
    click.option(
        "--secret",
        multiple=True,
        metavar="NAME[=VAR|:/PATH]",
        help="Secret it gets [file /run/secrets/NAME]. Repeat.",
    ),
    click.option("--user", "-u", metavar="USER[:GROUP]", help="User it runs as [the image's, else root]."),
    click.option("--workdir", "-w", metavar="PATH", help="Working folder [the image's, else /]."),
    click.option(
        "--restart", metavar="POLICY", help="When its main process ends: always, on-failure or never [never]."
    ),
    click.option("--protect", is_flag=True, help="Refuse to delete it until this is taken back."),
    click.option("--self-checkpoint", is_flag=True, help="It may checkpoint itself through /.skerry/run/api.sock."),
    click.option("--self-lease", is_flag=True, help="It may keep itself awake through /.skerry/run/api.sock."),
    click.option("--idle", metavar="TIME", help="Fall asleep after so long unused, or never [as the server is set]."),
    click.option("--cold-after", metavar="TIME", help="Go from warm to cold after so long, or never [likewise]."),
    click.option("--idle-cpu", type=float, metavar="CORES", help="Using more than this counts as activity."),
    click.option("--squeeze", is_flag=True, help="Give what it can of its memory back when it falls asleep."),
    click.option("--public", is_flag=True, help="Let everybody open the URLs of its ports, without a key or a link."),
    click.option("--checkpoint-every", type=DURATION, metavar="TIME", help="Checkpoint it by itself, such as 10m."),
    click.option("--checkpoint-keep", type=int, metavar="N", help="How many of those stay [10]."),
    click.option("--checkpoint-max-age", type=DURATION, metavar="TIME", help="How long those stay."),
)


def policy_options(function: F) -> F:
    for option in reversed(_POLICY_OPTIONS):
        function = option(function)
    return function


def spec_options(function: F) -> F:
    function = demand_options("production")(health_options(port_option(function)))
    for option in reversed(_OPTIONS):
        function = option(function)
    return policy_options(function)


def spec_from(image: str, options: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a SandboxSpec; takes what it knows out of `options`. Values are the server's to judge."""
    body: dict[str, Any] = {"image": image}
    for name in PLAIN:
        value = options.pop(name)
        if value is not None:
            body[name] = value
    for flag, name in FLAGS.items():
        if options.pop(flag):
            body[name] = True
    found: dict[str, Any] = {
        "env": env_pairs(options.pop("env"), options.pop("env_file")),
        "labels": label_pairs(options.pop("label")),
        "mounts": [mount(text) for text in options.pop("mount")],
        "ports": [_port(text) for text in options.pop("ports")],
        "networks": [join_from_text(text) for text in options.pop("join")],
        "secrets": [use_from_text(text) for text in options.pop("secret")],
        "network": _network(options.pop("network"), options),
        "bandwidth": bandwidth(options),
        "health": health_from(options),
        "checkpoints": checkpoint_policy(options),
    }
    return body | demand_from(options) | {name: value for name, value in found.items() if value}


def mount(text: str) -> dict[str, Any]:
    try:
        found = mount_from_text(text)
    except Invalid as error:
        raise click.UsageError(error.say) from None
    if "source" in found:
        found["source"] = os.path.abspath(os.path.expanduser(found["source"]))
    return found


def _port(text: str) -> dict[str, Any]:
    try:
        return port_from_text(text)
    except Invalid as error:
        raise click.UsageError(error.say) from None


def _network(enabled: bool | None, options: dict[str, Any]) -> dict[str, Any]:
    given = {
        "enabled": enabled,
        "default": options.pop("egress"),
        "rules": policy_calls.rules(options.pop("allow"), options.pop("deny")) or None,
        "observe": options.pop("observe") or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def bandwidth(options: dict[str, Any]) -> dict[str, Any]:
    given = {"up": options.pop("bandwidth_up"), "down": options.pop("bandwidth_down")}
    return {name: value for name, value in given.items() if value is not None}


def checkpoint_policy(options: dict[str, Any]) -> dict[str, Any]:
    given = {
        "every_s": options.pop("checkpoint_every"),
        "keep": options.pop("checkpoint_keep"),
        "max_age_s": options.pop("checkpoint_max_age"),
    }
    return {name: int(value) for name, value in given.items() if value is not None}
