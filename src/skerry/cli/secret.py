"""`skerry secret …`: values that sandboxes are given. A value comes by stdin or from a file, never as an argument."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command, completing, label_pairs, sought, yes_option
from skerry.cli.output import Columns, age, human_size, is_terminal, local_time, pairs, part
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import secrets as calls

_IN = "Commands"
_HERE = "skerry.cli.secret:"
ENTRIES = {
    "set": Entry(_HERE + "set_secret", "Keep a value, read from stdin.", _IN),
    "list": Entry(_HERE + "list_secrets", "List secrets.", _IN),
    "inspect": Entry(_HERE + "inspect", "What is known of one: never its value.", _IN),
    "delete": Entry(_HERE + "delete", "Delete one that no sandbox uses.", _IN),
    "create": Entry(_HERE + "set_secret", "Keep a value, read from stdin."),
    "ls": Entry(_HERE + "list_secrets", "List secrets."),
    "rm": Entry(_HERE + "delete", "Delete one that no sandbox uses."),
}


def secret_argument(function: Any) -> Any:
    return click.argument("secret", callback=sought("secret"), shell_complete=completing("secret"))(function)


@click.command("secret", cls=LazyGroup, entries=ENTRIES)
def secret() -> None:
    """Values that sandboxes get, as variables or files, and that nobody is shown."""


@command("set")
@click.option("--file", "path", type=click.Path(), metavar="FILE", help="Take the bytes of FILE, as they are.")
@click.option("--binary", is_flag=True, help="Take the bytes of stdin as they are, its last newline too.")
@click.option("--label", "-l", multiple=True, metavar="KEY=VALUE", help="Label, in place of those it has. Repeat.")
@click.argument("name", shell_complete=completing("secret"))
def set_secret(invocation: Invocation, name: str, path: str | None, binary: bool, label: tuple[str, ...]) -> None:
    """Keep the secret NAME; one of that name gets this value from now on.

    \b
      skerry secret set token < token.txt
      pass show api | skerry secret set api-key
      skerry create debian:12 --secret token --secret api-key=API_KEY

    Read from stdin; on a terminal it is asked for, unseen. One newline at its end is left out. Sandboxes that run keep
    the value they have until their next start.
    """
    labels = label_pairs(label) if label else None
    body = invocation.ask(calls.set_value(name, _value(name, path, binary), labels))
    invocation.output.one(body, f"{body['name']} ({body['id']}) is at version {body['version']}")


def _value(name: str, path: str | None, binary: bool) -> str | bytes:
    if path is not None:
        try:
            with Path(path).open("rb") as file:
                return _bounded(file)
        except OSError as error:
            raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    if is_terminal(sys.stdin) and not binary:
        return click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt="Once more", err=True)
    given = _bounded(sys.stdin.buffer)
    if binary:
        return given
    try:
        return given.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise click.UsageError("the value is not text; with --binary its bytes are kept as they are") from None


def _bounded(file: BinaryIO) -> bytes:
    """With room for the newline that may be left out."""
    given = file.read(calls.VALUE_BYTES_MAX + 2)
    if len(given) > calls.VALUE_BYTES_MAX + given.endswith(b"\n"):
        raise click.UsageError(f"a secret has at most {calls.VALUE_BYTES_MAX // 1024} KiB")
    return given


@command("list")
def list_secrets(invocation: Invocation) -> None:
    """List secrets."""
    items = invocation.run(flows.gather(lambda token: calls.list_page(page_token=token)))
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "VERSION": lambda item: item["version"],
        "SIZE": lambda item: human_size(item["size_bytes"]),
        "SET": lambda item: f"{age(item['updated_at'])} ago",
    }
    invocation.output.many(items, columns)


@command("inspect")
@secret_argument
def inspect(invocation: Invocation, secret: str) -> None:
    """What is known of SECRET, and which sandboxes use it. Its value is shown to nobody."""
    body = invocation.ask(calls.get(secret))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    invocation.output.facts(
        {
            "name": body["name"],
            "id": body["id"],
            "version": body["version"],
            "size": human_size(body["size_bytes"]),
            "kind": "text" if body["text"] else "bytes: a file only",
            "labels": pairs(part(body, "labels")),
            "used by": ", ".join(body["used_by"]) or "none",
            "created": local_time(body["created_at"]),
            "set": local_time(body["updated_at"]),
        }
    )


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, help="Also while sandboxes use it: they cannot be started again.")
@secret_argument
def delete(invocation: Invocation, secret: str, yes: bool, force: bool) -> None:
    """Delete SECRET; refused while a sandbox uses it."""
    invocation.confirm(f"Delete secret {secret}?", yes or force)
    body = invocation.ask(calls.delete(secret, force=force)) or {"id": secret}
    invocation.output.one(body, f"{secret} deleted")
