"""`skerry explain`: why something waits, or why it is where it is; `skerry usage`: what was used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, completing, sought
from skerry.cli.output import Columns, age, human_duration, local_time, plain
from skerry.client.calls import cloud
from skerry.model.amounts import amount_of


@command("explain")
@click.argument("name", callback=sought("sandbox"), shell_complete=completing("sandbox"))
def explain(invocation: Invocation, name: str) -> None:
    """Why the sandbox, job or service NAME waits, or why it was placed where it is; of a service also why it has as
    many replicas as it has, and why it is not healthy."""
    found = invocation.ask(cloud.explain(name))
    output = invocation.output
    if output.json or output.quiet:
        output.one(found, "")
        return
    output.facts(
        {
            found["noun"]: found["name"],
            "state": found["state"],
            "queue": f"{found['queue']}, tier {found['tier']}, priority {found['priority']}",
        }
    )
    for line in ["", *found["says"]] if found.get("says") else []:
        output.line(plain(line))
    if found["pending"]:
        for line in _waiting(found):
            output.line(plain(line))
    if found["placed"]:
        output.line()
    for seat in found["placed"]:
        where = f"{seat['sandbox']}: " if found["noun"] != "sandbox" else ""
        output.line(plain(f"{where}placed {age(seat['at'])} ago {seat['say']}"))


def _waiting(found: Any) -> list[str]:
    waiting = found["waiting"]
    if waiting is None:
        return ["\nIt waits to be looked at."]
    many = f" ({found['pending']} sandboxes wait)" if found["pending"] > 1 else ""
    lines = ["", f"It waits: {waiting['say']}{many}."]
    if waiting["position"] is not None:
        ahead = f", behind {', '.join(waiting['ahead'])}" if waiting["ahead"] else ", nobody is ahead of it"
        lines.append(f"It is number {waiting['position']} in its queue{ahead}.")
    fallen = [f"  {each['nodes']:>6}  {each['filter']}" for each in waiting["fallen"] if each["nodes"]]
    if fallen:
        lines += ["", "Nodes that cannot have it now, by what they lack:", *fallen]
    if waiting["near"]:
        lines += ["", "Nearest to having room:"]
        lines += [f"  {each['node']}  lacks {_missing(each['missing'])}" for each in waiting["near"]]
    lines += ["", _when(waiting["starts_at"])]
    return lines


def _when(starts_at: str | None) -> str:
    if starts_at is None:
        return "When it starts cannot be told: what runs says nothing of when it ends."
    left_s = (datetime.fromisoformat(starts_at) - datetime.now(UTC)).total_seconds()
    return f"It is expected to start in {human_duration(max(0.0, left_s))}, at {local_time(starts_at)}."


def _missing(missing: dict[str, int]) -> str:
    return ", ".join(amount_of(resource, amount) for resource, amount in missing.items()) or "nothing"


@command("usage")
@click.option(
    "--by",
    type=click.Choice(["project", "user", "queue", "job"]),
    default="project",
    help="Whose, summed up [project].",
)
@click.option("--since", type=DURATION, metavar="TIME", help="Of the last 12h, 30d, … [30d].")
@click.option("--project", metavar="NAME", help="Only of this one.")
def usage(invocation: Invocation, by: str, since: float | None, project: str | None) -> None:
    """What was used, in hours of cores, of GiB of memory and of accelerators, for as long as they were held."""
    start = None if since is None else (datetime.now(UTC) - timedelta(seconds=since)).isoformat()
    found = invocation.ask(cloud.usage(by, start, project))
    if invocation.output.json:
        invocation.output.emit(found)
        return
    columns: Columns = {
        by.upper(): lambda item: item["name"] or "-",
        "CORE-HOURS": lambda item: f"{item['core_hours']:.2f}",
        "GIB-HOURS": lambda item: f"{item['gib_hours']:.2f}",
        "GPU-HOURS": lambda item: f"{item['gpu_hours']:.2f}",
        "STAYS": lambda item: item["stays"],
    }
    invocation.output.many(found["items"], columns, name="name")
