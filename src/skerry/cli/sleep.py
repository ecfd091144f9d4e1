"""`skerry sleep`, `wake` and `lease …`: let a sandbox rest, get it back, keep it from falling asleep."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import DURATION, command, sandbox_argument, sandboxes_argument
from skerry.cli.output import Columns, local_time
from skerry.cli.sandbox import act_on_each
from skerry.cli.table import Entry
from skerry.client.calls import sleep as calls

_IN = "Commands"
_HERE = "skerry.cli.sleep:"
ENTRIES = {
    "create": Entry(_HERE + "create_lease", "Keep a sandbox awake for a while.", _IN),
    "list": Entry(_HERE + "list_leases", "What keeps a sandbox awake.", _IN),
    "end": Entry(_HERE + "end_lease", "Let it fall asleep again.", _IN),
    "ls": Entry(_HERE + "list_leases", "What keeps a sandbox awake."),
    "rm": Entry(_HERE + "end_lease", "Let it fall asleep again."),
}


@command("sleep")
@click.option("--cold", is_flag=True, help="Stop it, to give its memory back; its command starts again on waking.")
@click.option("--force", "-f", is_flag=True, help="Even while a command or a lease keeps it awake.")
@sandboxes_argument
def sleep(invocation: Invocation, sandboxes: tuple[str, ...], cold: bool, force: bool) -> None:
    """Put sandboxes to sleep now. The next command, request or connection wakes them."""
    act_on_each(invocation, sandboxes, lambda name: invocation.ask(calls.sleep(name, cold=cold, force=force)), "asleep")


@command("wake")
@sandboxes_argument
def wake(invocation: Invocation, sandboxes: tuple[str, ...]) -> None:
    """Wake sandboxes."""
    act_on_each(invocation, sandboxes, lambda name: invocation.ask(calls.wake(name)), "awake")


@click.command("lease", cls=LazyGroup, entries=ENTRIES)
def lease() -> None:
    """Keep a sandbox awake for a while, whatever it does or does not do."""


@command("create")
@click.option("--for", "for_s", type=DURATION, metavar="TIME", help="How long, at most a day [10m].")
@click.option("--note", default="", metavar="TEXT", help="Shown to who asks why it is awake.")
@sandbox_argument
def create_lease(invocation: Invocation, sandbox: str, for_s: float | None, note: str) -> None:
    """Keep SANDBOX awake until the lease runs out or is ended; wakes it, too."""
    made = invocation.ask(calls.keep_awake(sandbox, for_s, note))
    invocation.output.one(made, f"{made['id']} keeps {sandbox} awake until {local_time(made['until'])}")


@command("list")
@sandbox_argument
def list_leases(invocation: Invocation, sandbox: str) -> None:
    """The leases of SANDBOX; `skerry inspect` tells all that keeps it awake."""
    columns: Columns = {
        "ID": lambda item: item["id"],
        "UNTIL": lambda item: local_time(item["until"]),
        "NOTE": lambda item: item["note"] or "-",
    }
    found: list[Any] = invocation.ask(calls.activity(sandbox))["leases"]
    invocation.output.many(found, columns)


@command("end")
@sandbox_argument
@click.argument("lease")
def end_lease(invocation: Invocation, sandbox: str, lease: str) -> None:
    """End LEASE before its time."""
    ended = invocation.ask(calls.end_lease(sandbox, lease))
    invocation.output.one(ended, f"{ended['id']} ended")
