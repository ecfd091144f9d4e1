"""`skerry update` and `reload`: change a sandbox that is there, and start it again with its disk as it is."""

from __future__ import annotations

import posixpath
from typing import Any

import click

from skerry.cli.demand_options import demand_from, demand_options
from skerry.cli.health_options import health_from, health_options, port_option
from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, env_pairs, label_pairs, sandbox_argument, sandboxes_or_all
from skerry.cli.output import part, parts
from skerry.cli.sandbox import act_on_each
from skerry.cli.spec_options import bandwidth, checkpoint_policy, mount
from skerry.cli.tail_command import TailCommand, tail_argument
from skerry.client import flows
from skerry.client.calls import sandboxes as calls
from skerry.client.calls.secrets import text_of as secret_text
from skerry.client.calls.secrets import use_from_text
from skerry.errors import RestartNeeded

RESETS = ("command", "hostname", "health", "user", "workdir", "idle", "cold-after", "idle-cpu", "gpu-memory")
EMPTIED: dict[str, Any] = {"placement": {}, "extras": {}, "gpu-kind": []}
"""What --reset makes of fields in which nothing is a value of their own kind."""
grace_option = click.option(
    "--grace", "-t", "grace", type=DURATION, metavar="TIME", help="Between TERM and KILL, when it is stopped [10s]."
)


@command("reload")
@grace_option
@sandboxes_or_all
def reload(invocation: Invocation, sandboxes: tuple[str, ...], grace: float | None) -> None:
    """Stop sandboxes and start them again: their processes begin anew, their disks stay.

    Without a name, in the folder of a skerry.yaml, all of its sandboxes.
    """

    def act(name: str) -> Any:
        return invocation.run(flows.reload(name, grace_s=grace))

    act_on_each(invocation, sandboxes, act, "reloaded")


@command("update", cls=TailCommand)
@click.option("--name", metavar="NEW", help="New name.")
@click.option("--hostname", metavar="NAME", help="Its own name for itself.")
@click.option("--restart", metavar="POLICY", help="When its main process ends: always, on-failure or never.")
@click.option("--cpu", "--cpus", "cpu", type=float, metavar="CORES", help="Ceiling on processor cores.")
@click.option("--memory", "-m", metavar="SIZE", help="Ceiling on memory.")
@click.option("--disk", metavar="SIZE", help="What it may write on top of its image.")
@click.option("--pids", "--pids-limit", "pids", type=int, metavar="N", help="Ceiling on processes.")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Add or change a variable. Repeat.")
@click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE", help="Lines of KEY=VALUE.")
@click.option("--remove-env", multiple=True, metavar="KEY", help="Take a variable away. Repeat.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Add or change a label. Repeat.")
@click.option("--remove-label", multiple=True, metavar="KEY", help="Take a label away. Repeat.")
@click.option(
    "--mount",
    "--volume",
    "-v",
    "mounts",
    multiple=True,
    metavar="SOURCE:TARGET[:ro,owner]",
    help="Add a folder or a volume.",
)
@click.option("--remove-mount", multiple=True, metavar="TARGET", help="Take a mount away. Repeat.")
@click.option("--secret", multiple=True, metavar="NAME[=VAR|:/PATH]", help="Add a secret. Repeat.")
@click.option("--remove-secret", multiple=True, metavar="NAME", help="Take a secret away. Repeat.")
@click.option("--user", "-u", metavar="USER[:GROUP]", help="User it runs as.")
@click.option("--workdir", "-w", metavar="PATH", help="Working folder.")
@click.option("--network/--no-network", "network", default=None, help="Internet access.")
@click.option("--protect/--no-protect", "protected", default=None, help="Refuse to delete it, or not.")
@click.option("--public/--private", default=None, help="Let everybody open its URLs, or only who has a key or a link.")
@click.option("--self-checkpoint/--no-self-checkpoint", default=None, help="It may checkpoint itself, or not.")
@click.option("--self-lease/--no-self-lease", default=None, help="It may keep itself awake, or not.")
@click.option("--idle", metavar="TIME", help="Fall asleep after so long unused, or never.")
@click.option("--cold-after", metavar="TIME", help="Go cold after so long asleep, or never.")
@click.option("--idle-cpu", type=float, metavar="CORES", help="Using more than this counts as activity.")
@click.option("--squeeze/--no-squeeze", default=None, help="Give memory back when it falls asleep, or not.")
@click.option("--bandwidth-up", metavar="RATE", help="What it may send, such as 10Mbit, or unlimited.")
@click.option("--bandwidth-down", metavar="RATE", help="What it may receive, or unlimited.")
@click.option("--checkpoint-every", type=DURATION, metavar="TIME", help="Checkpoint it by itself; 0: no more.")
@click.option("--checkpoint-keep", type=int, metavar="N", help="How many of those stay.")
@click.option("--checkpoint-max-age", type=DURATION, metavar="TIME", help="How long those stay.")
@demand_options("production")
@health_options
@port_option
@click.option(
    "--reset",
    multiple=True,
    type=click.Choice((*RESETS, *EMPTIED)),
    help="Back to the default: command to none. Repeat.",
)
@click.option("--reload", "reload_too", is_flag=True, help="Stop it and start it again if the change takes that.")
@grace_option
@sandbox_argument
@tail_argument(required=False)
def update(
    invocation: Invocation,
    sandbox: str,
    command: tuple[str, ...],
    reset: tuple[str, ...],
    reload_too: bool,
    grace: float | None,
    **options: Any,
) -> None:
    """Change a sandbox; its disk stays. COMMAND is its new main process.

    Limits, sleep, ports, health and names change while it runs. Environment, folders, secrets, user, command and
    network take a restart: stop it first, or add --reload. Queue, tier, priority and placement count from its next
    start on.

    \b
      skerry update box --memory 2GiB
      skerry update box --env LEVEL=debug --mount ./src:/src --reload
    """
    health = health_from(options)
    if not (command or reset or health or any(value not in (None, ()) for value in options.values())):
        raise click.UsageError("nothing to change: see `skerry update --help`")
    record = invocation.ask(calls.get(sandbox))
    change = _change(record["spec"], options)
    if health:
        change["health"] = health
    if command:
        change["command"] = list(command)
    change |= {name.replace("-", "_"): EMPTIED.get(name) for name in reset}
    try:
        body, done = invocation.ask(calls.update(record["id"], change)), "updated"
    except RestartNeeded:
        if not reload_too:
            raise
        body, done = invocation.run(flows.reload(record["id"], change, grace_s=grace)), "updated and started again"
    invocation.output.one(body, f"{body['name']} {done}")


def _change(spec: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a SandboxUpdate: what is added to and taken from is sent whole."""
    change: dict[str, Any] = {}
    for name, given, gone in (
        ("labels", label_pairs(options.pop("label")), options.pop("remove_label")),
        ("env", env_pairs(options.pop("env"), options.pop("env_file")), options.pop("remove_env")),
    ):
        if given or gone:
            whole = {**part(spec, name), **given}
            change[name] = {key: value for key, value in whole.items() if key not in gone}
    mounts, gone = [mount(text) for text in options.pop("mounts")], options.pop("remove_mount")
    if mounts or gone:
        replaced = {posixpath.normpath(target) for target in (*gone, *(each["target"] for each in mounts))}
        change["mounts"] = [each for each in parts(spec, "mounts") if each["target"] not in replaced] + mounts
    secrets, gone = [use_from_text(text) for text in options.pop("secret")], options.pop("remove_secret")
    if secrets or gone:
        kept = [use for use in parts(spec, "secrets") if use["name"] not in gone]
        change["secrets"] = kept + [use for use in secrets if secret_text(use) not in map(secret_text, kept)]
    if rates := bandwidth(options):
        change["bandwidth"] = {**part(spec, "bandwidth"), **rates}
    if rhythm := checkpoint_policy(options):
        whole = {**part(spec, "checkpoints"), **rhythm}
        change["checkpoints"] = {**whole, "every_s": whole.get("every_s") or None}
    demand = demand_from(options)
    for name in {"placement", "extras"} & demand.keys():
        demand[name] = {**part(spec, name), **demand[name]}
    change |= demand
    if (enabled := options.pop("network")) is not None:
        change["network"] = {"enabled": enabled}
    return change | {name: value for name, value in options.items() if value is not None}
