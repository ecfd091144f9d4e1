"""`skerry share …`: folders of this machine that sandboxes of its server may mount."""

from __future__ import annotations

from pathlib import Path

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command
from skerry.cli.table import Entry
from skerry.client import shares

_IN = "Commands"
_HERE = "skerry.cli.share:"
ENTRIES = {
    "add": Entry(_HERE + "add", "Let sandboxes mount a folder.", _IN),
    "list": Entry(_HERE + "list_shares", "List what was added.", _IN),
    "rm": Entry(_HERE + "remove", "Share one no longer.", _IN),
    "ls": Entry(_HERE + "list_shares", "List what was added."),
    "remove": Entry(_HERE + "remove", "Share one no longer."),
}


@click.command("share", cls=LazyGroup, entries=ENTRIES)
def share() -> None:
    """Folders of this machine that its sandboxes may mount, beside those of `serve --share`.

    Written to the data folder of the server on this machine, which takes root, and never sent over the API: a key alone
    shares nothing. They count at once, without a restart.
    """


@command("add")
@click.argument("path", type=click.Path(path_type=Path))
def add(invocation: Invocation, path: Path) -> None:
    """Let sandboxes of the server on this machine mount PATH and what is below it."""
    real = str(shares.add(path, invocation.environ))
    invocation.output.one({"path": real}, f"{real} may be mounted by sandboxes", name="path")


@command("list")
def list_shares(invocation: Invocation) -> None:
    """List the folders that were added; those of `serve --share` are not among them."""
    found = [{"path": str(path)} for path in shares.added(invocation.environ)]
    invocation.output.many(found, {"PATH": lambda item: item["path"]}, name="path")


@command("rm")
@click.argument("path", type=click.Path(path_type=Path))
def remove(invocation: Invocation, path: Path) -> None:
    """Share PATH no longer. Sandboxes that have it mounted keep it until they stop."""
    gone = str(shares.remove(path, invocation.environ))
    invocation.output.one({"path": gone}, f"{gone} is no longer shared", name="path")
