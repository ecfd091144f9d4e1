"""`skerry node …`: machines that run sandboxes."""

from __future__ import annotations

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command
from skerry.cli.output import Columns, age, human_size, pairs, part
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import cloud

ENTRIES = {
    "list": Entry("skerry.cli.node:list_nodes", "List machines.", "Commands"),
    "ls": Entry("skerry.cli.node:list_nodes", "List machines."),
}


@click.command("node", cls=LazyGroup, entries=ENTRIES)
def node() -> None:
    """Machines that run sandboxes."""


@command("list")
def list_nodes(invocation: Invocation) -> None:
    """List machines and what they have."""
    items = invocation.run(flows.gather(lambda token: cloud.nodes(page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "STATE": lambda item: item["state"],
        "CPU": lambda item: f"{item['cpu']:g}",
        "MEMORY": lambda item: human_size(item["memory_bytes"]),
        "DISK": lambda item: human_size(item["disk_bytes"]),
        "SEEN": lambda item: f"{age(item['seen_at'])} ago",
        "LABELS": lambda item: pairs(part(item, "labels")),
    }
    invocation.output.many(items, columns)
