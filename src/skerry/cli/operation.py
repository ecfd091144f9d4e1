"""`skerry operation …`: long pieces of work."""

from __future__ import annotations

import click

from skerry.cli import progress
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command
from skerry.cli.output import Columns, age, local_time, part
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import cloud

_IN = "Commands"
_HERE = "skerry.cli.operation:"
ENTRIES = {
    "list": Entry(_HERE + "list_operations", "List operations.", _IN),
    "show": Entry(_HERE + "show", "All that is known of one.", _IN),
    "watch": Entry(_HERE + "watch", "Follow one to its end.", _IN),
    "ls": Entry(_HERE + "list_operations", "List operations."),
    "inspect": Entry(_HERE + "show", "All that is known of one."),
}
LIST_MAX = 1000


@click.command("operation", cls=LazyGroup, entries=ENTRIES)
def operation() -> None:
    """Long pieces of work that somebody asked for."""


@command("list")
@click.option("--target", metavar="ID", help="Only those on this object.")
@click.option("--state", help="Only those that are running, succeeded or failed.")
def list_operations(invocation: Invocation, target: str | None, state: str | None) -> None:
    """List operations."""
    items = invocation.run(
        flows.gather(lambda token: cloud.operations(target=target, state=state, page_token=token), items_max=LIST_MAX)
    )
    columns: Columns = {
        "ID": lambda item: item["id"],
        "KIND": lambda item: item["kind"],
        "TARGET": lambda item: item["target"],
        "STATE": lambda item: item["state"],
        "AGE": lambda item: age(item["created_at"]),
        "ERROR": lambda item: item.get("error") or "",
    }
    invocation.output.many(items, columns)


@command("show")
@click.argument("operation")
def show(invocation: Invocation, operation: str) -> None:
    """All that is known of OPERATION."""
    body = invocation.ask(cloud.operation(operation))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    invocation.output.facts(
        {
            "id": body["id"],
            "kind": body["kind"],
            "target": body["target"],
            "state": body["state"],
            "step": part(body, "progress").get("step"),
            "error": body.get("error"),
            "began": local_time(body["created_at"]),
            "ended": local_time(body.get("finished_at")),
        }
    )


@command("watch")
@click.argument("operation")
def watch(invocation: Invocation, operation: str) -> None:
    """Follow OPERATION to its end; fails if it fails."""
    body = progress.watch(invocation, operation, operation)
    invocation.output.one(body, f"{body['kind']} of {body['target']} {body['state']}")
