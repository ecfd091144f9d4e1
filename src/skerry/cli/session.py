"""`skerry session …`: commands that were left running in a sandbox."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from skerry.cli.execute import exit_of
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, sandbox_argument
from skerry.cli.output import Columns, age, is_terminal
from skerry.cli.table import Entry
from skerry.cli.tail_command import PassThrough
from skerry.client.calls import commands as calls
from skerry.errors import Invalid, NotFound

LEAVE_KEY = b"\x1d"
"""Ctrl-], as in telnet and virsh: hardly a program wants it, and unlike Ctrl-P Ctrl-Q nothing need be held back."""

_IN = "Commands"
_HERE = "skerry.cli.session:"
ENTRIES = {
    "list": Entry(_HERE + "list_sessions", "List commands, ended ones too.", _IN),
    "attach": Entry(_HERE + "attach", "Its output so far and from now on; your input.", _IN),
    "kill": Entry(_HERE + "kill", "Send it a signal.", _IN),
    "ls": Entry(_HERE + "list_sessions", "List commands."),
}


@click.command("session", cls=LazyGroup, entries=ENTRIES)
def session() -> None:
    """Commands that run in a sandbox, with or without a client (`skerry exec --detach`)."""


def _state(item: Any) -> str:
    end = item.get("exit")
    return "running" if end is None else f"exit {end.get('code')}"


@command("list")
@sandbox_argument
def list_sessions(invocation: Invocation, sandbox: str) -> None:
    """List the commands of SANDBOX, those that ended lately too."""
    columns: Columns = {
        "ID": lambda item: item["id"],
        "STATE": _state,
        "DETACHED": lambda item: "yes" if item["detached"] else "no",
        "TTY": lambda item: "yes" if item["tty"] else "no",
        "AGE": lambda item: age(item["started_at"]),
        "COMMAND": lambda item: shlex.join(item["command"])[:80],
    }
    invocation.output.many(invocation.ask(calls.list_all(sandbox))["items"], columns)


def chosen(invocation: Invocation, sandbox: str, ref: str | None) -> Any:
    """The session with this id or beginning of an id; the only one that runs, where none is named."""
    items: list[Any] = invocation.ask(calls.list_all(sandbox))["items"]
    if ref is None:
        found = [item for item in items if item.get("exit") is None and item["detached"]]
    else:
        found = [item for item in items if item["id"] == ref] or [
            item for item in items if item["id"].startswith(ref) or item["id"].partition("-")[2].startswith(ref)
        ]
    if len(found) == 1:
        return found[0]
    if not found and ref is None:
        raise NotFound(f"{sandbox} has no running session; `skerry session list {sandbox}` shows those that ended")
    if not found:
        raise NotFound(f"{sandbox} has no session {ref!r}")
    raise Invalid(f"say which session: {', '.join(item['id'] for item in found)}")


@command("attach", cls=PassThrough)
@sandbox_argument
@click.argument("session", required=False)
def attach(invocation: Invocation, sandbox: str, session: str | None) -> int:
    """See the output of SESSION, send it your input, end with its exit code.

    Ctrl-C leaves it running; Ctrl-] does if it has a terminal, where Ctrl-C is for the command.
    """
    from skerry.cli import terminal

    found = chosen(invocation, sandbox, session)
    tty = bool(found["tty"]) and is_terminal(sys.stdin)
    with invocation.transport.exec_socket(calls.attach_path(sandbox, found["id"])) as socket:
        if tty:
            socket.resize(*terminal.size())
        piped = not is_terminal(sys.stdin)
        end = terminal.converse(socket, tty=tty, stdin=tty or piped, close=False, leave_key=LEAVE_KEY)
    if end is not None:
        return exit_of(end)
    invocation.output.note(f"\nleft; {found['id']} goes on")
    return 0


@command("kill")
@click.option("--signal", "-s", default="TERM", metavar="NAME", help="HUP, INT, KILL, … [TERM].")
@sandbox_argument
@click.argument("session", required=False)
def kill(invocation: Invocation, sandbox: str, session: str | None, signal: str) -> None:
    """Send a signal to SESSION, or to the only one that runs."""
    found = chosen(invocation, sandbox, session)
    invocation.ask(calls.kill(sandbox, found["id"], signal.upper()))
    invocation.output.one(found, f"{signal.upper()} sent to {found['id']}")
