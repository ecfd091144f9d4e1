"""`skerry checkpoint …`: keep a sandbox's disk, list, compare, look into and delete what was kept."""

from __future__ import annotations

import sys
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import checkpoint_argument, command, sandbox_argument, sandbox_or_primary, yes_option
from skerry.cli.output import Columns, age, human_size, local_time, pairs, part, parts, plain
from skerry.cli.removing import delete_each
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import checkpoints as calls
from skerry.client.calls import files

_IN = "Commands"
_HERE = "skerry.cli.checkpoint:"

ENTRIES = {
    "create": Entry(_HERE + "create", "Keep the disk as it is now.", _IN),
    "list": Entry(_HERE + "list_checkpoints", "List a sandbox's checkpoints.", _IN),
    "info": Entry(_HERE + "info", "All that is known of a checkpoint.", _IN),
    "diff": Entry(_HERE + "diff", "Paths that changed between two, or since one.", _IN),
    "ls": Entry(_HERE + "list_files", "List files in a checkpoint.", _IN),
    "cat": Entry(_HERE + "cat", "Print a file of a checkpoint.", _IN),
    "delete": Entry(_HERE + "delete", "Delete checkpoints.", _IN),
    "restore": Entry("skerry.cli.moves:restore", "Put the sandbox back to one.", _IN),
    "rm": Entry(_HERE + "delete", "Delete checkpoints."),
    "save": Entry(_HERE + "create", "Keep the disk as it is now."),
}
MARKS = {"added": "A", "modified": "M", "removed": "D"}


@click.command(
    "checkpoint",
    cls=LazyGroup,
    entries=ENTRIES,
    shorthand="create",
    epilog="`skerry checkpoint BOX` is short for `skerry checkpoint create BOX`.",
)
def checkpoint() -> None:
    """Keep a sandbox's disk as it is at one moment: milliseconds, whatever its size, while it runs.

    Memory, processes and mounted folders are not part of a checkpoint.
    """


def name_of(item: Any) -> str:
    return f"v{item['number']}"


@command("create")
@click.option("--comment", "-c", default="", metavar="TEXT", help="What it is.")
@sandbox_argument
@click.argument("comment_words", metavar="[COMMENT]", required=False)
def create(invocation: Invocation, sandbox: str, comment: str, comment_words: str | None) -> None:
    """Keep the disk of SANDBOX as it is now."""
    text = comment or comment_words or ""
    body = invocation.run(
        flows.settle(lambda wait_s: calls.create(sandbox, text, wait_s), lambda had: calls.get(sandbox, had["id"]))
    )
    stood = body.get("frozen_ms")
    took = f", {sandbox} stood still for {stood:.1f} ms" if stood is not None else ""
    invocation.output.one(body, f"{name_of(body)} ({body['id']}) of {sandbox} is {body['state']}{took}")


@command("list")
@sandbox_or_primary
def list_checkpoints(invocation: Invocation, sandbox: str) -> None:
    """List the checkpoints of SANDBOX, automatic ones too."""
    items = invocation.run(
        flows.gather(lambda token: calls.list_page(sandbox, limit=flows.PAGE_ITEMS, page_token=token))
    )
    columns: Columns = {
        "VERSION": name_of,
        "ID": lambda item: item["id"],
        "STATE": lambda item: item["state"],
        "ORIGIN": lambda item: item["origin"],
        "AGE": lambda item: age(item["created_at"]),
        "COMMENT": lambda item: item["comment"],
    }
    invocation.output.many(items, columns)


@command("info")
@sandbox_argument
@checkpoint_argument("checkpoint")
def info(invocation: Invocation, sandbox: str, checkpoint: str) -> None:
    """All that is known of CHECKPOINT (v3, 3, or its id), what it leaves out too."""
    body = invocation.ask(calls.get(sandbox, checkpoint))
    if invocation.output.json:
        invocation.output.emit(body)
        return
    spec = body["spec"]
    invocation.output.facts(
        {
            "version": name_of(body),
            "id": body["id"],
            "sandbox": body["sandbox"],
            "state": body["state"],
            "reason": body.get("reason"),
            "origin": body["origin"],
            "comment": body["comment"],
            "created": local_time(body["created_at"]),
            "stood still": f"{body['frozen_ms']:.1f} ms" if body.get("frozen_ms") is not None else None,
            "image": spec["image"],
            "cpu": spec.get("cpu"),
            "memory": human_size(spec.get("memory")),
            "command": " ".join(parts(spec, "command")),
            "env": pairs(part(spec, "env")),
            "labels": pairs(part(spec, "labels")),
            "not contained": ", ".join(parts(body, "not_contained")),
            "node": body.get("node"),
        }
    )


@command("diff")
@sandbox_argument
@checkpoint_argument("a")
@checkpoint_argument("b", required=False)
def diff(invocation: Invocation, sandbox: str, a: str, b: str | None) -> None:
    """Paths that changed from checkpoint A to checkpoint B, or to SANDBOX as it is now: A added, M modified, D gone."""
    body = invocation.ask(calls.diff(sandbox, a, b))
    output = invocation.output
    if output.json:
        output.emit(body)
        return
    for item in body["items"]:
        colour = {"A": "green", "D": "red"}.get(MARKS[item["change"]])
        text = f"{MARKS[item['change']]} {plain(item['path'])}"
        output.line(item["path"] if output.quiet else output.paint(text, colour))
    if body.get("truncated"):
        output.note("more paths changed than can be shown")


@command("ls")
@sandbox_argument
@checkpoint_argument("checkpoint")
@click.argument("path", default="/")
def list_files(invocation: Invocation, sandbox: str, checkpoint: str, path: str) -> None:
    """List the files of CHECKPOINT below PATH [/], without restoring it."""
    body = invocation.ask(files.list_all(calls.path(sandbox, checkpoint), path))
    columns: Columns = {
        "MODE": lambda item: item["mode"],
        "OWNER": lambda item: f"{item['uid']}:{item['gid']}",
        "SIZE": lambda item: human_size(item["size_bytes"]),
        "MODIFIED": lambda item: local_time(item["modified_at"]),
        "NAME": lambda item: item["name"] + _mark(item),
    }
    invocation.output.many(body["items"], columns, name="path")
    if body.get("truncated"):
        invocation.output.note("there are more files than can be shown")


def _mark(item: Any) -> str:
    return f" -> {item['target']}" if item.get("target") else "/" if item["kind"] == "directory" else ""


@command("cat")
@sandbox_argument
@checkpoint_argument("checkpoint")
@click.argument("path")
def cat(invocation: Invocation, sandbox: str, checkpoint: str, path: str) -> None:
    """Print the file PATH as it is in CHECKPOINT."""
    with invocation.transport.stream(files.read(calls.path(sandbox, checkpoint), path)) as stream:
        for chunk in stream:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@command("delete")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@sandbox_argument
@checkpoint_argument("checkpoints", nargs=-1, required=True)
def delete(invocation: Invocation, sandbox: str, checkpoints: tuple[str, ...], yes: bool, force: bool) -> None:
    """Delete CHECKPOINTS of SANDBOX."""
    invocation.confirm(f"Delete {', '.join(checkpoints)} of {sandbox}?", yes or force)
    delete_each(
        invocation,
        checkpoints,
        lambda ref: invocation.run(flows.settle(lambda wait_s: calls.delete(sandbox, ref, wait_s))),
        f"of {sandbox} deleted",
    )
