"""`skerry node …`: machines that run sandboxes, and whether they take work."""

from __future__ import annotations

import time
from typing import Any

import click

from skerry.cli.amount_view import bar, gpus, of_accelerators
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import DURATION, command, completing, label_pairs, sought, yes_option
from skerry.cli.output import Columns, age, human_size, local_time, pairs, part, parts
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import nodes as calls
from skerry.errors import Conflict, DeadlineExceeded

_IN = "Commands"
_HERE = "skerry.cli.node:"
ENTRIES = {
    "list": Entry(_HERE + "list_nodes", "List machines.", _IN),
    "show": Entry(_HERE + "show", "What a machine has, and what is on it.", _IN),
    "label": Entry(_HERE + "label", "Give a machine labels, or take them away.", _IN),
    "taint": Entry(_HERE + "taint", "Keep work away that does not tolerate it.", _IN),
    "cordon": Entry(_HERE + "cordon", "Place nothing more on a machine.", _IN),
    "uncordon": Entry(_HERE + "uncordon", "Let it take work again.", _IN),
    "drain": Entry(_HERE + "drain", "Have what is on it moved or stopped.", _IN),
    "ls": Entry(_HERE + "list_nodes", "List machines."),
    "inspect": Entry(_HERE + "show", "What a machine has, and what is on it."),
}
LOOK_EVERY_S = 1.0


@click.command("node", cls=LazyGroup, entries=ENTRIES)
def node() -> None:
    """Machines that run sandboxes."""


def node_argument(function: Any) -> Any:
    return click.argument("node", callback=sought("node"), shell_complete=completing("node"))(function)


@command("list")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
def list_nodes(invocation: Invocation, label: tuple[str, ...]) -> None:
    """List machines, what they have and how much of it is promised."""
    labels = label_pairs(label)
    items = invocation.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "STATE": _state,
        "CPU": lambda item: f"{part(item, 'used').get('cpu', 0):g}/{item['cpu']:g}",
        "MEMORY": lambda item: (
            f"{human_size(part(item, 'used').get('memory_bytes', 0))}/{human_size(item['memory_bytes'])}"
        ),
        "DISK FREE": lambda item: human_size(item["disk_free_bytes"]),
        "SANDBOXES": lambda item: f"{item.get('running', 0)}/{item.get('sandboxes', 0)}",
        "SEEN": lambda item: f"{age(item['seen_at'])} ago",
    }
    if any(item.get("accelerators") for item in items):
        columns["GPU"] = lambda item: f"{part(item, 'used').get('gpu', 0):g}/{gpus(item)}"
    if any(item.get("taints") for item in items):
        columns["TAINTS"] = lambda item: ", ".join(parts(item, "taints"))
    if any(item.get("labels") for item in items):
        columns["LABELS"] = lambda item: pairs(part(item, "labels"))
    invocation.output.many(items, columns)


def _state(item: Any) -> str:
    word = "draining" if item.get("draining") else "cordoned" if item.get("cordoned") else ""
    return item["state"] if not word else word if item["state"] == "ready" else f"{item['state']}, {word}"


@command("show")
@node_argument
def show(invocation: Invocation, node: str) -> None:
    """What NODE has, what of it is promised, and what was set of it."""
    body = invocation.ask(calls.get(node))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    used = part(body, "used")
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "state": _state(body),
            "arch": body.get("arch"),
            "cpu": bar(used.get("cpu", 0), body["cpu"]),
            "memory": bar(used.get("memory_bytes", 0), body["memory_bytes"], human_size),
            "gpu": bar(used.get("gpu", 0), gpus(body)) if gpus(body) else None,
            "accelerators": of_accelerators(body),
            "extras": ", ".join(
                f"{name} {part(used, 'extras').get(name, 0)}/{count}" for name, count in part(body, "extras").items()
            ),
            "disk": f"{human_size(body['disk_free_bytes'])} of {human_size(body['disk_bytes'])} free",
            "sandboxes": f"{body.get('running', 0)} with a place, {body.get('sandboxes', 0)} in all",
            "labels": pairs(part(body, "labels")),
            "taints": ", ".join(parts(body, "taints")),
            "seen": local_time(body["seen_at"]),
        }
    )


def _changes(given: tuple[str, ...], what: str) -> dict[str, str | None]:
    """KEY=VALUE sets, KEY- takes away."""
    found: dict[str, str | None] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals and text.endswith("-") and len(text) > 1:
            found[text[:-1]] = None
        elif equals and key:
            found[key] = value
        else:
            raise click.UsageError(f"{text!r} is not KEY=VALUE, or KEY- to take the {what} away")
    return found


@command("label")
@node_argument
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-")
def label(invocation: Invocation, node: str, labels: tuple[str, ...]) -> None:
    """Give NODE labels; KEY- takes one away. Queues choose their nodes by them, and work where it runs.

    \b
      skerry node label gpu-1 rack=a link=nvl-7
      skerry node label gpu-1 rack-
    """
    body = invocation.ask(calls.update(node, labels=_changes(labels, "label")))
    invocation.output.one(body, f"{body['name']} has {pairs(part(body, 'labels')) or 'no labels'}")


@command("taint")
@node_argument
@click.argument("taints", nargs=-1, required=True, metavar="KEY=VALUE|KEY-")
def taint(invocation: Invocation, node: str, taints: tuple[str, ...]) -> None:
    """Have only work placed on NODE that tolerates all its taints; KEY- takes one away. What is there stays.

    \b
      skerry node taint gpu-1 team=vision
      skerry run --tolerate team=vision …
    """
    body = invocation.ask(calls.update(node, taints=_changes(taints, "taint")))
    invocation.output.one(body, f"{body['name']} has {', '.join(parts(body, 'taints')) or 'no taints'}")


@command("cordon")
@node_argument
def cordon(invocation: Invocation, node: str) -> None:
    """Place nothing more on NODE. What is there stays."""
    body = invocation.ask(calls.act(node, "cordon"))
    invocation.output.one(body, f"{body['name']} takes no more work")


@command("uncordon")
@node_argument
def uncordon(invocation: Invocation, node: str) -> None:
    """Let NODE take work again; a drain ends."""
    body = invocation.ask(calls.act(node, "uncordon"))
    invocation.output.one(body, f"{body['name']} takes work")


@command("drain")
@yes_option
@click.option("--wait/--no-wait", default=True, help="Wait until nothing is left that runs there [on].")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Wait no longer than this; the drain goes on.")
@node_argument
def drain(invocation: Invocation, node: str, yes: bool, wait: bool, timeout: float | None) -> None:
    """Cordon NODE and have its work moved or stopped: jobs begin their tasks anew elsewhere, other sandboxes are
    stopped and wait, on their disks, until the machine takes work again. `skerry node uncordon` ends it.

    \b
      skerry node drain gpu-1 && ssh gpu-1 reboot
    """
    before = invocation.ask(calls.get(node))
    count = before.get("running", 0)
    if count:
        invocation.confirm(f"Stop or move {count} sandboxes on {before['name']}?", yes)
    body = invocation.ask(calls.act(node, "drain"))
    if wait and count:
        body = _until_empty(invocation, body["id"], timeout)
    left = body.get("running", 0) if wait else count
    invocation.output.one(
        body, f"{body['name']} is drained" if not left else f"{body['name']} is draining; {left} left"
    )


def _until_empty(invocation: Invocation, node_id: str, timeout: float | None) -> Any:
    deadline_s = None if timeout is None else time.monotonic() + timeout
    told = -1
    while True:
        body = invocation.ask(calls.get(node_id))
        left = body.get("running", 0)
        if not left:
            return body
        if not body.get("draining"):
            raise Conflict(f"the drain of {body['name']} was ended with {left} sandboxes left")
        if left != told:
            invocation.output.note(f"{body['name']}: {left} left")
            told = left
        if deadline_s is not None and time.monotonic() > deadline_s:
            raise DeadlineExceeded(f"{body['name']} is draining; {left} sandboxes are left")
        time.sleep(LOOK_EVERY_S)
