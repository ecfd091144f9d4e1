"""`skerry context …`: servers the user talks to, and with which key, as gcloud has configurations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, yes_option
from skerry.cli.output import Columns
from skerry.cli.table import Entry
from skerry.client.contexts import LOCAL, Context, Contexts, contexts_path
from skerry.client.target import local_socket, normal_address
from skerry.errors import SkerryError

_IN = "Commands"
_HERE = "skerry.cli.context:"
ENTRIES = {
    "create": Entry(_HERE + "create", "Add a server.", _IN),
    "use": Entry(_HERE + "use", "Talk to this one from now on.", _IN),
    "list": Entry(_HERE + "list_contexts", "List contexts.", _IN),
    "show": Entry(_HERE + "show", "One context, the current one if not named.", _IN),
    "delete": Entry(_HERE + "delete", "Forget one.", _IN),
    "ls": Entry(_HERE + "list_contexts", "List contexts."),
    "rm": Entry(_HERE + "delete", "Forget one."),
    "inspect": Entry(_HERE + "show", "One context."),
}


@click.command("context", cls=LazyGroup, entries=ENTRIES)
def context() -> None:
    """Servers you talk to, and with which key. `local` is this machine.

    For one call: `skerry --context NAME …`, or SKERRY_CONTEXT. SKERRY_ADDRESS and SKERRY_KEY win over both.
    """


def _load(invocation: Invocation) -> Contexts:
    return Contexts.load(contexts_path(invocation.environ))


@command("create")
@click.option("--address", required=True, metavar="ADDRESS", help="HOST:PORT, https://HOST or unix:///PATH.")
@click.option("--key", metavar="SECRET", help="The key; others see it in your shell's history: --key-file is better.")
@click.option("--key-file", type=click.Path(), metavar="FILE", help="Read the key from FILE (- for stdin).")
@click.option("--project", metavar="NAME", help="Project to work in.")
@click.option("--use", is_flag=True, help="Talk to it from now on; the first one is used anyway.")
@click.option("--replace", is_flag=True, help="Overwrite one of the same name.")
@click.argument("name")
def create(
    invocation: Invocation,
    name: str,
    address: str,
    key: str | None,
    key_file: str | None,
    project: str | None,
    use: bool,
    replace: bool,
) -> None:
    """Remember a server as NAME."""
    if key and key_file:
        raise click.UsageError("give --key or --key-file, not both")
    if key_file:
        try:
            key = (sys.stdin.read() if key_file == "-" else Path(key_file).read_text()).strip()
        except OSError as error:
            raise click.UsageError(f"cannot read {key_file}: {error.strerror}") from None
    contexts = _load(invocation)
    contexts.create(Context(name, normal_address(address), key or None, project), replace=replace)
    if use:
        contexts.use(name)
    now = " and is used from now on" if contexts.current == name else ""
    invocation.output.one(_wire(contexts, contexts.get(name)), f"{name} is {contexts.get(name).address}{now}", "name")


@command("use")
@click.argument("name", shell_complete=completing("context"))
def use(invocation: Invocation, name: str) -> None:
    """Talk to NAME from now on; `local` is this machine."""
    contexts = _load(invocation)
    contexts.use(name)
    invocation.output.one({"name": name}, f"using {name}", "name")


def _wire(contexts: Contexts, item: Context) -> dict[str, Any]:
    """Without the key: what is printed is pasted somewhere."""
    return {
        "name": item.name,
        "address": item.address,
        "project": item.project,
        "key": f"…{item.key[-4:]}" if item.key else None,
        "current": contexts.current == item.name,
    }


@command("list")
def list_contexts(invocation: Invocation) -> None:
    """List contexts."""
    contexts = _load(invocation)
    try:
        local = f"unix://{local_socket(invocation.environ)}"
    except SkerryError:
        local = "-"
    here = {"name": LOCAL, "address": local, "project": None, "key": None, "current": contexts.current is None}
    columns: Columns = {
        "": lambda item: "*" if item["current"] else "",
        "NAME": lambda item: item["name"],
        "ADDRESS": lambda item: item["address"],
        "PROJECT": lambda item: item["project"] or "-",
        "KEY": lambda item: item["key"] or "-",
    }
    items = [here, *(_wire(contexts, item) for item in contexts.items.values())]
    invocation.output.many(items, columns, name="name")


@command("show")
@click.argument("name", required=False, shell_complete=completing("context"))
def show(invocation: Invocation, name: str | None) -> None:
    """What NAME is; without a name, where a command would go now and why."""
    contexts = _load(invocation)
    if name and name != LOCAL:
        body = _wire(contexts, contexts.get(name))
    else:
        target = invocation.target()
        body = {
            "name": contexts.current or LOCAL,
            "address": target.address,
            "project": target.project,
            "key": f"…{target.key[-4:]}" if target.key else None,
            "from": target.source,
        }
    if invocation.output.json or invocation.output.quiet:
        invocation.output.one(body, "", "name")
    else:
        invocation.output.facts(body)


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("name", shell_complete=completing("context"))
def delete(invocation: Invocation, name: str, yes: bool, force: bool) -> None:
    """Forget the server NAME and its key; nothing happens to the server."""
    contexts = _load(invocation)
    contexts.get(name)
    invocation.confirm(f"Forget {name} and its key?", yes or force)
    contexts.delete(name)
    invocation.output.one({"name": name}, f"{name} forgotten", "name")
