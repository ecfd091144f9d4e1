"""`skerry events`: what happened, and what happens."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, completing, sought
from skerry.cli.output import Columns, local_time, plain
from skerry.client import flows, wire
from skerry.client.calls import cloud
from skerry.client.calls import sandboxes as calls

NOUNS = ("sandbox", "checkpoint", "image", "network", "volume", "model", "node", "key")


@command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--noun", type=click.Choice(NOUNS), metavar="NOUN", help=f"Only of {', '.join(NOUNS)}.")
@click.option("--after", type=int, metavar="NUMBER", help="Only those after this one.")
@click.option("--limit", type=int, default=1000, metavar="N", help="At most so many [1000].")
@click.argument("sandbox", required=False, callback=sought("sandbox"), shell_complete=completing("sandbox"))
def events(
    invocation: Invocation, sandbox: str | None, follow: bool, noun: str | None, after: int | None, limit: int
) -> None:
    """What happened, oldest first; to SANDBOX only, if given."""
    target = invocation.ask(calls.get(sandbox))["id"] if sandbox else None
    output = invocation.output
    if follow:
        lines = wire.Lines()
        with invocation.transport.stream(cloud.watch_events(target=target, noun=noun, after=after)) as stream:
            for chunk in stream:
                for item in lines.feed(chunk):
                    if "sequence" in item:
                        output.emit_line(item) if output.json else output.line(plain(_sentence(item)))
                output.stream.flush()
        return
    items = invocation.run(
        flows.gather(
            lambda token: cloud.events(target=target, noun=noun, after=after, limit=min(limit, 500), page_token=token),
            items_max=limit,
        )
    )
    columns: Columns = {
        "AT": lambda item: local_time(item["at"]),
        "NUMBER": lambda item: item["sequence"],
        "NOUN": lambda item: item["noun"],
        "NAME": lambda item: item["name"],
        "WHAT": lambda item: item["kind"],
        "MESSAGE": lambda item: item.get("message", ""),
    }
    output.many(items, columns, name="sequence")


def _sentence(item: Any) -> str:
    return (
        f"{local_time(item['at'])}  {item['noun']} {item['name']}  {item['kind']}  {item.get('message', '')}".rstrip()
    )
