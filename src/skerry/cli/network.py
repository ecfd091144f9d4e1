"""`skerry network …`: private networks, and which sandboxes are in them."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sandbox_argument, sought, yes_option
from skerry.cli.output import Columns, age, local_time, pairs, part, parts
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import networks as calls
from skerry.client.calls import sandboxes
from skerry.errors import Failed, NotFound

APPLIED_S = 30.0
_IN = "Commands"
_HERE = "skerry.cli.network:"
ENTRIES = {
    "create": Entry(_HERE + "create", "Make a private network.", _IN),
    "list": Entry(_HERE + "list_networks", "List private networks.", _IN),
    "inspect": Entry(_HERE + "inspect", "Who is in it, and where.", _IN),
    "join": Entry(_HERE + "join", "Put a sandbox into it.", _IN),
    "leave": Entry(_HERE + "leave", "Take a sandbox out of it.", _IN),
    "delete": Entry(_HERE + "delete", "Delete one that nobody is in.", _IN),
    "ls": Entry(_HERE + "list_networks", "List private networks."),
    "rm": Entry(_HERE + "delete", "Delete one that nobody is in."),
}


def network_argument(function: Any) -> Any:
    return click.argument("network", callback=sought("network"), shell_complete=completing("network"))(function)


@click.command("network", cls=LazyGroup, entries=ENTRIES)
def network() -> None:
    """Private networks: sandboxes in the same one reach each other, by address and by name."""


@command("create")
@click.option("--subnet", required=True, metavar="RANGE", help="Addresses of its members, such as 10.77.0.0/24.")
@click.option("--internal", is_flag=True, help="Who is in internal networks only has no way outside.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label to find it by. Repeat.")
@click.argument("name")
def create(invocation: Invocation, name: str, subnet: str, internal: bool, label: tuple[str, ...]) -> None:
    """Make the private network NAME.

    \b
      skerry network create backend --subnet 10.77.0.0/24
      skerry create debian:12 --name db --join backend:10.77.0.5
      skerry create debian:12 --name web --join backend
      skerry exec web -- getent hosts db          10.77.0.5; also by the name db.backend
    """
    body = invocation.ask(calls.create(name, subnet, internal=internal, labels=label_pairs(label)))
    invocation.output.one(body, f"{body['name']} ({body['id']}) has {body['subnet']}")


@command("list")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Only those with this label. Repeat.")
def list_networks(invocation: Invocation, label: tuple[str, ...]) -> None:
    """List private networks."""
    labels = label_pairs(label)
    items = invocation.run(flows.gather(lambda token: calls.list_page(labels=labels, page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "SUBNET": lambda item: item["subnet"],
        "KIND": _kind,
        "AGE": lambda item: age(item["created_at"]),
    }
    if any(item.get("labels") for item in items):
        columns["LABELS"] = lambda item: pairs(part(item, "labels"))
    invocation.output.many(items, columns)


def _kind(item: Any) -> str:
    return "internal" if item["internal"] else "nat"


@command("inspect")
@network_argument
def inspect(invocation: Invocation, network: str) -> None:
    """Who is in NETWORK, by what address."""
    body = invocation.ask(calls.get(network))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    members = [f"{each['name']} {each['address']} ({each['state']})" for each in body["members"]]
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "subnet": body["subnet"],
            "kind": _kind(body),
            "labels": pairs(part(body, "labels")),
            "members": ", ".join(members) or "none",
            "created": local_time(body["created_at"]),
        }
    )


@command("join")
@sandbox_argument
@click.argument("network", metavar="NETWORK[:ADDRESS]")
def join(invocation: Invocation, sandbox: str, network: str) -> None:
    """Put SANDBOX into NETWORK, at once if it runs; or give it another address there."""
    wish = calls.join_from_text(network)
    record = invocation.ask(sandboxes.get(sandbox))
    others = [each for each in parts(record["spec"], "networks") if each["name"] != wish["name"]]
    body = _change(invocation, record, [*others, wish])
    [made] = [each for each in body["memberships"] if each["name"] == wish["name"]]
    invocation.output.one(body, f"{body['name']} is {made['address']} in {made['name']}")


@command("leave")
@sandbox_argument
@network_argument
def leave(invocation: Invocation, sandbox: str, network: str) -> None:
    """Take SANDBOX out of NETWORK; its connections there end."""
    record = invocation.ask(sandboxes.get(sandbox))
    joined = parts(record["spec"], "networks")
    left = [each for each in joined if each["name"] != network]
    if len(left) == len(joined):
        known = ", ".join(each["name"] for each in joined) or "none"
        raise NotFound(f"sandbox {record['name']} is not in network {network}; it is in {known}")
    body = _change(invocation, record, left)
    invocation.output.one(body, f"{body['name']} has left {network}")


def _change(invocation: Invocation, record: Any, networks: list[Any]) -> Any:
    body = invocation.ask(sandboxes.update(record["id"], {"networks": networks}, APPLIED_S))
    if not body.get("applied", True):
        raise Failed(f"sandbox {body['name']} has not been told yet; it will be as soon as its machine answers")
    return body


@command("delete")
@yes_option
@network_argument
def delete(invocation: Invocation, network: str, yes: bool) -> None:
    """Delete NETWORK; refused while a sandbox is in it."""
    invocation.confirm(f"Delete network {network}?", yes)
    body = invocation.ask(calls.delete(network)) or {"id": network}
    invocation.output.one(body, f"{network} deleted")
