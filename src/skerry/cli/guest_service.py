"""`skerry sandbox service …`: commands that are kept running in a sandbox. `skerry service` is for model servers."""

from __future__ import annotations

import shlex
from typing import Any

import click

from skerry.cli.health_options import health_from, health_options
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, env_pairs, sandbox_argument
from skerry.cli.output import Columns, age, part
from skerry.cli.table import Entry
from skerry.cli.watching import print_log
from skerry.client.call import Call
from skerry.client.calls import guest_services as calls

_IN = "Commands"
_HERE = "skerry.cli.guest_service:"
ENTRIES = {
    "list": Entry(_HERE + "list_services", "The services of a sandbox and how they are.", _IN),
    "add": Entry(_HERE + "add", "Add one, or change it.", _IN),
    "rm": Entry(_HERE + "remove", "Stop one and take it away.", _IN),
    "start": Entry(_HERE + "start", "Start one and what it needs.", _IN),
    "stop": Entry(_HERE + "stop", "Stop one.", _IN),
    "restart": Entry(_HERE + "restart", "Stop one and start it again.", _IN),
    "logs": Entry(_HERE + "logs", "What one printed.", _IN),
    "ls": Entry(_HERE + "list_services", "The services of a sandbox and how they are."),
    "delete": Entry(_HERE + "remove", "Stop one and take it away."),
}
_name = click.argument("name")


@click.command("service", cls=LazyGroup, entries=ENTRIES)
def service() -> None:
    """Commands that a sandbox's machine keeps running in it, started with it and by a request to their port."""


def state_of(item: Any) -> str:
    return item["status"]["state"] if item["status"] else "-"


@command("list")
@sandbox_argument
def list_services(invocation: Invocation, sandbox: str) -> None:
    """The services of SANDBOX and how they are."""
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "STATE": state_of,
        "PORT": lambda item: item["spec"]["port"] or "-",
        "NEEDS": lambda item: ",".join(item["spec"]["needs"]) or "-",
        "RESTARTS": lambda item: item["status"]["restarts"] if item["status"] else "-",
        "SINCE": lambda item: age(item["status"]["since"]) if item["status"] else "-",
        "COMMAND": lambda item: shlex.join(item["spec"]["command"])[:60],
        "REASON": lambda item: part(item, "status").get("reason") or "",
    }
    invocation.output.many(invocation.ask(calls.list_all(sandbox))["items"], columns, name="name")


@command("add")
@click.option("--port", "-p", type=int, metavar="PORT", help="Port it listens on; a connection there starts it.")
@click.option("--needs", multiple=True, metavar="NAME", help="Service that must be healthy first. Repeat.")
@click.option("--restart", metavar="POLICY", help="always, on-failure or never [always].")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment. Repeat.")
@click.option("--user", "-u", metavar="USER[:GROUP]", help="User it runs as [the sandbox's].")
@click.option("--workdir", "-w", metavar="PATH", help="Working folder [the sandbox's].")
@health_options
@sandbox_argument
@_name
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def add(
    invocation: Invocation, sandbox: str, name: str, command: tuple[str, ...], needs: tuple[str, ...], **options: Any
) -> None:
    """Keep COMMAND running in SANDBOX as the service NAME, or change the service of that name.

    \b
      skerry sandbox service add box db -p 5432 -- postgres -D /srv/data
      skerry sandbox service add box web -p 8080 --needs db --health-http /health -- /srv/web
    """
    spec: dict[str, Any] = {"command": list(command)}
    health = health_from(options)
    env = env_pairs(options.pop("env"))
    spec |= {key: value for key, value in options.items() if value is not None}
    spec |= {key: value for key, value in {"needs": list(needs), "env": env, "health": health}.items() if value}
    made = invocation.ask(calls.put(sandbox, name, spec))
    invocation.output.one({"id": name, **made}, f"service {name} of {sandbox} is declared")


@command("rm")
@sandbox_argument
@_name
def remove(invocation: Invocation, sandbox: str, name: str) -> None:
    """Stop the service NAME of SANDBOX and take it away, with its log."""
    gone = invocation.ask(calls.remove(sandbox, name))
    invocation.output.one({"id": name, **gone}, f"service {name} of {sandbox} is taken away")


def _acted(invocation: Invocation, name: str, call: Call[Any]) -> None:
    body = invocation.ask(call)
    invocation.output.one({"id": name, **body}, f"{name} is {state_of(body)}")


@command("start")
@sandbox_argument
@_name
def start(invocation: Invocation, sandbox: str, name: str) -> None:
    """Start the service NAME of SANDBOX and whatever it needs."""
    _acted(invocation, name, calls.act(sandbox, name, "start"))


@command("stop")
@sandbox_argument
@_name
def stop(invocation: Invocation, sandbox: str, name: str) -> None:
    """Stop the service NAME of SANDBOX, until it is started, somebody connects to its port, or SANDBOX starts."""
    _acted(invocation, name, calls.act(sandbox, name, "stop"))


@command("restart")
@sandbox_argument
@_name
def restart(invocation: Invocation, sandbox: str, name: str) -> None:
    """Stop the service NAME of SANDBOX and start it again."""
    _acted(invocation, name, calls.act(sandbox, name, "restart"))


@command("logs")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines.")
@sandbox_argument
@_name
def logs(invocation: Invocation, sandbox: str, name: str, follow: bool, tail: int | None) -> None:
    """What the service NAME of SANDBOX printed."""
    print_log(invocation, calls.logs(sandbox, name, follow=follow, tail=tail))
