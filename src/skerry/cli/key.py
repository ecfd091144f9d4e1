"""`skerry key …`: keys that programs show to be let in."""

from __future__ import annotations

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, yes_option
from skerry.cli.output import Columns, age
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import cloud

_IN = "Commands"
_HERE = "skerry.cli.key:"
ENTRIES = {
    "create": Entry(_HERE + "create", "Make a key; its secret is shown once.", _IN),
    "list": Entry(_HERE + "list_keys", "List keys.", _IN),
    "delete": Entry(_HERE + "delete", "Delete a key: it lets nobody in any more.", _IN),
    "ls": Entry(_HERE + "list_keys", "List keys."),
    "rm": Entry(_HERE + "delete", "Delete a key."),
}


@click.command("key", cls=LazyGroup, entries=ENTRIES)
def key() -> None:
    """Keys that programs show to be let in; the server keeps only their hashes."""


@command("create")
@click.argument("name")
def create(invocation: Invocation, name: str) -> None:
    """Make the key NAME. Its secret is printed now and never again (with --quiet, alone)."""
    body = invocation.ask(cloud.create_key(name))
    invocation.output.one(body, str(body["secret"]), name="secret")
    if not invocation.output.json:
        invocation.output.note(
            f"key {body['name']} ({body['id']}): the line above is its secret; it is not shown again"
        )


@command("list")
def list_keys(invocation: Invocation) -> None:
    """List keys, without their secrets."""
    items = invocation.run(flows.gather(lambda token: cloud.keys(page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "PROJECT": lambda item: item["project"],
        "AGE": lambda item: age(item["created_at"]),
        "LAST USED": lambda item: f"{age(item['last_used_at'])} ago" if item.get("last_used_at") else "never",
    }
    invocation.output.many(items, columns)


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("name", shell_complete=completing("key"))
def delete(invocation: Invocation, name: str, yes: bool, force: bool) -> None:
    """Delete the key with this name or id."""
    invocation.confirm(f"Delete key {name}?", yes or force)
    body = invocation.ask(cloud.delete_key(name)) or {"id": name}
    invocation.output.one(body, f"{name} deleted")
