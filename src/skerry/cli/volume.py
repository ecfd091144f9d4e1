"""`skerry volume …`: folders with a name and a size, which sandboxes share and which outlive them."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sought, yes_option
from skerry.cli.output import Columns, age, human_size, local_time, pairs, part, parts
from skerry.cli.removing import delete_each
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import volumes as calls
from skerry.errors import Failed

_IN = "Commands"
_HERE = "skerry.cli.volume:"
ENTRIES = {
    "create": Entry(_HERE + "create", "Make an empty volume.", _IN),
    "list": Entry(_HERE + "list_volumes", "List volumes.", _IN),
    "inspect": Entry(_HERE + "inspect", "All that is known of a volume.", _IN),
    "update": Entry(_HERE + "update", "Change its size or its labels.", _IN),
    "cp": Entry(_HERE + "copy", "Make a volume that begins as a copy of one.", _IN),
    "snapshot": Entry(_HERE + "snapshot", "Keep a volume as it is now, read-only.", _IN),
    "delete": Entry(_HERE + "delete", "Delete volumes and what is in them.", _IN),
    "clone": Entry(_HERE + "copy", "Make a volume that begins as a copy of one."),
    "ls": Entry(_HERE + "list_volumes", "List volumes."),
    "rm": Entry(_HERE + "delete", "Delete volumes and what is in them."),
}
HABITS = {
    "prune": "skerry volume list, then skerry volume delete NAME",
    "resize": "skerry volume update NAME --size SIZE",
    "restore": "skerry volume cp SNAPSHOT NAME",
}

size_option = click.option("--size", metavar="SIZE", help="What may be written to it, such as 20GiB [10GiB].")
label_option = click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat.")


def volume_argument(name: str = "volume") -> Any:
    return click.argument(name, callback=sought("volume"), shell_complete=completing("volume"))


@click.command("volume", cls=LazyGroup, entries=ENTRIES, habits=HABITS)
def volume() -> None:
    """Folders with a name and a size. Sandboxes mount them, several at once; they stay when the sandboxes go."""


@command("create")
@size_option
@label_option
@click.argument("name")
def create(invocation: Invocation, name: str, size: str | None, label: tuple[str, ...]) -> None:
    """Make the empty volume NAME.

    \b
      skerry volume create data --size 20GiB
      skerry create debian:12 --name db  -v data:/srv/data
      skerry create debian:12 --name web -v data:/srv/data:ro
    """
    _make(invocation, name, size=size, labels=label_pairs(label))


@command("cp")
@click.option("--size", metavar="SIZE", help="What may be written to it [as the source].")
@label_option
@volume_argument("source")
@click.argument("target")
def copy(invocation: Invocation, source: str, target: str, size: str | None, label: tuple[str, ...]) -> None:
    """Make the volume TARGET as a copy of SOURCE, a volume or a snapshot, in no time."""
    _make(invocation, target, source=source, size=size, labels=label_pairs(label))


@command("snapshot")
@label_option
@volume_argument()
@click.argument("name")
def snapshot(invocation: Invocation, volume: str, name: str, label: tuple[str, ...]) -> None:
    """Keep VOLUME as it is now as the read-only volume NAME.

    \b
      skerry volume snapshot data data-monday
      skerry create debian:12 -v data-monday:/old:ro      look into it
      skerry volume cp data-monday data2                  go on from it
    """
    _make(invocation, name, source=volume, readonly=True, labels=label_pairs(label))


def _make(invocation: Invocation, name: str, **given: Any) -> None:
    body = invocation.run(
        flows.settle(lambda wait_s: calls.create(name, **given, wait_s=wait_s), lambda had: calls.get(had["id"]))
    )
    invocation.output.one(body, f"{body['name']} ({body['id']}) is {body['state']}")


@command("list")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
@click.option("--name", metavar="PREFIX", help="Only those whose name begins so.")
def list_volumes(invocation: Invocation, label: tuple[str, ...], name: str | None) -> None:
    """List volumes. USED is what was written to each; what a copy shares with its source costs nothing."""
    labels = label_pairs(label)
    items = invocation.run(
        flows.gather(lambda token: calls.list_page(name=name, labels=labels, limit=flows.PAGE_ITEMS, page_token=token))
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "SIZE": lambda item: "read-only" if item["readonly"] else human_size(item["size_bytes"]),
        "USED": lambda item: human_size(item.get("used_bytes")),
        "STATE": lambda item: item["state"],
        "USED BY": lambda item: ", ".join(parts(item, "used_by")) or "-",
        "AGE": lambda item: age(item["created_at"]),
    }
    if any(item.get("source") for item in items):
        named = {item["id"]: item["name"] for item in items}
        columns["COPY OF"] = lambda item: named.get(item.get("source"), item.get("source") or "-")
    if any(item.get("labels") for item in items):
        columns["LABELS"] = lambda item: pairs(part(item, "labels"))
    invocation.output.many(items, columns)


@command("inspect")
@volume_argument()
def inspect(invocation: Invocation, volume: str) -> None:
    """All that is known of VOLUME."""
    body = invocation.ask(calls.get(volume))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": body["state"],
            "reason": body.get("reason"),
            "size": "read-only" if body["readonly"] else human_size(body["size_bytes"]),
            "used": human_size(body.get("used_bytes")),
            "used by": ", ".join(parts(body, "used_by")) or "nobody",
            "copy of": body.get("source"),
            "labels": pairs(part(body, "labels")),
            "node": body.get("node"),
            "operation": body.get("operation"),
            "created": local_time(body["created_at"]),
        }
    )


@command("update")
@click.option("--size", metavar="SIZE", help="What may be written to it; not less than it holds.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="In place of all its labels. Repeat.")
@click.option("--no-labels", is_flag=True, help="Take all its labels away.")
@volume_argument()
def update(invocation: Invocation, volume: str, size: str | None, label: tuple[str, ...], no_labels: bool) -> None:
    """Change VOLUME, while it is used."""
    labels = label_pairs(label) if label or no_labels else None
    if size is None and labels is None:
        raise click.UsageError("nothing to change: give --size, --label or --no-labels")
    body = invocation.run(
        flows.settle(
            lambda wait_s: calls.update(volume, size=size, labels=labels, wait_s=wait_s),
            lambda had: calls.get(had["id"]),
        )
    )
    if size is not None and body.get("reason"):
        raise Failed(body["reason"])
    invocation.output.one(body, f"{body['name']} has {human_size(body['size_bytes'])}")


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("volumes", nargs=-1, required=True, callback=sought("volume"), shell_complete=completing("volume"))
def delete(invocation: Invocation, volumes: tuple[str, ...], yes: bool, force: bool) -> None:
    """Delete VOLUMES and what is in them; refused while a sandbox mounts one."""
    invocation.confirm(f"Delete {', '.join(volumes)} and what is in them?", yes or force)
    delete_each(invocation, volumes, lambda ref: invocation.run(flows.settle(lambda wait_s: calls.delete(ref, wait_s))))
