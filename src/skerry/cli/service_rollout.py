"""`skerry service rollout …`: how a new revision of a service takes over."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import command
from skerry.cli.output import Columns, local_time
from skerry.cli.service import revision, service_argument
from skerry.cli.service_change import note_rollout, wait_option
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import services as calls

_IN = "Commands"
_HERE = "skerry.cli.service_rollout:"
ENTRIES = {
    "status": Entry(_HERE + "status", "How far it has come, and the revisions there are.", _IN),
    "promote": Entry(_HERE + "promote", "A canary, or the other colour, takes the place of the rest.", _IN),
    "pause": Entry(_HERE + "pause", "Stay as it is.", _IN),
    "resume": Entry(_HERE + "resume", "Go on.", _IN),
    "abort": Entry(_HERE + "abort", "Back to the revision in production.", _IN),
    "rollback": Entry(_HERE + "rollback", "Back to the revision before, or to one by number.", _IN),
    "history": Entry(_HERE + "status", "The revisions there are."),
    "undo": Entry(_HERE + "rollback", "Back to the revision before."),
}


@click.command("rollout", cls=LazyGroup, entries=ENTRIES)
def rollout() -> None:
    """How a new revision takes over. `skerry service update` begins one."""


@command("status")
@service_argument()
def status(invocation: Invocation, service: str) -> None:
    """How far the rollout of SERVICE has come, and the revisions that are kept."""
    body = invocation.ask(calls.get(service))
    items = invocation.ask(calls.revisions(body["id"]))["items"]
    going = body.get("rollout")
    if going and not invocation.output.json and not invocation.output.quiet:
        because = f": {going['reason']}" if going.get("reason") else ""
        invocation.output.note(f"revision {going['revision']} by {going['type']} is {going['phase']}{because}")

    def is_what(item: Any) -> str:
        if item["number"] == body["serving"]:
            return "in production"
        return going["phase"] if going and item["number"] == going["revision"] else ""

    columns: Columns = {
        "REVISION": lambda item: item["number"],
        "": is_what,
        "MADE": lambda item: local_time(item["created_at"]),
        "IMAGE": lambda item: item["spec"].get("image") or "-",
        "CHANGED": lambda item: item["reason"],
    }
    invocation.output.many(items, columns, name="number")


def _act(invocation: Invocation, service: str, action: str, wait: bool, number: int | None = None) -> None:
    if wait and action != "pause":
        body = invocation.run(
            flows.settle(lambda wait_s: calls.roll(service, action, number, wait_s), lambda body: calls.get(body["id"]))
        )
    else:
        body = invocation.ask(calls.roll(service, action, number))
    invocation.output.one(body, f"{body['name']} is {body['status']}, revision {revision(body)}")
    note_rollout(invocation, body)


@command("promote")
@wait_option
@service_argument()
def promote(invocation: Invocation, service: str, wait: bool) -> None:
    """The new revision of SERVICE takes the place of the one in production."""
    _act(invocation, service, "promote", wait)


@command("pause")
@service_argument()
def pause(invocation: Invocation, service: str) -> None:
    """Let the rollout of SERVICE stand as it is; what serves is kept at its number."""
    _act(invocation, service, "pause", wait=False)


@command("resume")
@wait_option
@service_argument()
def resume(invocation: Invocation, service: str, wait: bool) -> None:
    """Go on with a rollout that was paused, or that stopped because new replicas did not become healthy."""
    _act(invocation, service, "resume", wait)


@command("abort")
@wait_option
@service_argument()
def abort(invocation: Invocation, service: str, wait: bool) -> None:
    """Give the new revision of SERVICE up: back to the one in production."""
    _act(invocation, service, "abort", wait)


@command("rollback")
@wait_option
@click.option("--to", "number", type=int, metavar="REVISION", help="Which one [the one before].")
@service_argument()
def rollback(invocation: Invocation, service: str, number: int | None, wait: bool) -> None:
    """Roll SERVICE back to a revision that is kept, as any other is rolled out."""
    _act(invocation, service, "rollback", wait, number)
