"""`skerry port …`: where the server's machine passes connections on to a sandbox."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, sandbox_argument, sought
from skerry.cli.output import Columns, human_size, parts
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import ports as calls
from skerry.client.calls import sandboxes
from skerry.errors import Conflict, Invalid

_IN = "Commands"
_HERE = "skerry.cli.port:"
ENTRIES = {
    "add": Entry(_HERE + "add", "Publish a port of a sandbox.", _IN),
    "list": Entry(_HERE + "list_ports", "List published ports.", _IN),
    "rm": Entry(_HERE + "remove", "Publish it no longer.", _IN),
    "ls": Entry(_HERE + "list_ports", "List published ports."),
    "remove": Entry(_HERE + "remove", "Publish it no longer."),
}


@click.command("port", cls=LazyGroup, entries=ENTRIES)
def port() -> None:
    """Ports of the server's machine that lead to a sandbox, and wake it."""


@command("add")
@sandbox_argument
@click.argument("ports", nargs=-1, required=True, metavar="[IP:][HOST:]GUEST[/udp][,auto]…")
def add(invocation: Invocation, sandbox: str, ports: tuple[str, ...]) -> None:
    """Publish ports of SANDBOX at once, without a restart.

    \b
      skerry port add web 8080:80          http://127.0.0.1:8080 on the server
      skerry port add web 80               on a free port, which is printed
      skerry port add web 8080:80,auto     if 8080 is taken, on a free one, which is printed
      skerry port add dns 0.0.0.0:53:53/udp  open to the network
    """
    wanted = [parsed(calls.port_from_text, text) for text in ports]
    made = [invocation.ask(calls.add(sandbox, each)) for each in wanted]
    if invocation.output.json:
        invocation.output.emit(made[0] if len(made) == 1 else made)
        return
    for each in made:
        invocation.output.line(calls.told(each))


@command("rm")
@sandbox_argument
@click.argument("ports", nargs=-1, required=True, metavar="[IP:]HOST[/udp]…")
def remove(invocation: Invocation, sandbox: str, ports: tuple[str, ...]) -> None:
    """Publish ports of SANDBOX no longer; connections through them end. A port is named by its HOST side."""
    wanted = [parsed(calls.host_port_from_text, text) for text in ports]
    removed = [item for each in wanted for item in invocation.ask(calls.remove(sandbox, **each))["items"]]
    if invocation.output.json:
        invocation.output.emit(removed)
        return
    for item in removed:
        invocation.output.line(f"{calls.text_of(item)} removed")


@command("list")
@click.argument("sandbox", required=False, callback=sought("sandbox"))
def list_ports(invocation: Invocation, sandbox: str | None) -> None:
    """The published ports of SANDBOX, or of all; LISTENING says whether they take connections now."""
    if sandbox is None:
        records = invocation.run(
            flows.gather(lambda token: sandboxes.list_page(limit=flows.PAGE_ITEMS, page_token=token))
        )
    else:
        records = [invocation.ask(sandboxes.get(sandbox))]
    rows = [row for record in records for row in _rows(invocation, record)]
    columns: Columns = {
        "SANDBOX": lambda item: item["sandbox"],
        "HOST": lambda item: calls.text_of(item["port"]).rpartition(":")[0],
        "GUEST": lambda item: str(item["port"]["guest"]),
        "PROTOCOL": lambda item: item["port"]["protocol"],
        "LISTENING": lambda item: item["problem"] or ("yes" if item["listening"] else "no"),
        "OPEN": lambda item: str(item["connections"]),
        "IN": lambda item: human_size(item["received_bytes"]),
        "OUT": lambda item: human_size(item["sent_bytes"]),
    }
    if any(item["port"].get("wanted") for item in rows):
        columns["WANTED"] = lambda item: str(item["port"].get("wanted") or "-")
    invocation.output.many(rows, columns)


def _rows(invocation: Invocation, record: Any) -> list[Any]:
    """What is wanted, each with what its machine says of it."""
    wanted: list[Any] = record["spec"].get("ports") or []
    if not wanted:
        return []
    known: list[Any] = []
    try:
        known = invocation.ask(calls.list_all(record["id"]))["items"]
    except Conflict:
        pass  # it has no machine yet
    rows: list[Any] = []
    for each in wanted:
        idle = {
            "port": each,
            "listening": False,
            "problem": None,
            "connections": 0,
            "connections_total": 0,
            "received_bytes": 0,
            "sent_bytes": 0,
        }
        found = next((state for state in known if state["port"] == each), idle)
        rows.append({"sandbox": record["name"], **found})
    return rows


def parsed(read: Any, text: str) -> Any:
    """What a text stands for; a misspelt one is a misuse of the command, not a failure of the server."""
    try:
        return read(text)
    except Invalid as error:
        raise click.UsageError(error.say) from None


def published(spec: Any) -> str:
    """For `inspect`."""
    return ", ".join(calls.told(each) for each in parts(spec, "ports"))
