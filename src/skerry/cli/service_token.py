"""`skerry service token …`: what clients of services show to be let in."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import DURATION, command, completing, yes_option
from skerry.cli.output import Columns, age, local_time, part, parts
from skerry.cli.table import Entry
from skerry.client import flows
from skerry.client.calls import services as calls

_IN = "Commands"
_HERE = "skerry.cli.service_token:"
ENTRIES = {
    "create": Entry(_HERE + "create", "Make a token; its secret is shown once.", _IN),
    "list": Entry(_HERE + "list_tokens", "List tokens.", _IN),
    "revoke": Entry(_HERE + "revoke", "It lets nobody in any more.", _IN),
    "ls": Entry(_HERE + "list_tokens", "List tokens."),
    "rm": Entry(_HERE + "revoke", "It lets nobody in any more."),
    "delete": Entry(_HERE + "revoke", "It lets nobody in any more."),
}
LIMITS = {
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "concurrency": "concurrency",
    "budget": "budget_tokens",
}
SHOWN = {
    "requests": "requests/min",
    "tokens": "tokens/min",
    "concurrency": "at once",
    "budget": "tokens in all",
}


@click.command("token", cls=LazyGroup, entries=ENTRIES)
def token() -> None:
    """Tokens of services: for what, until when and how much. The server keeps only their hashes."""


@command("create")
@click.option("--service", "-s", "services", multiple=True, metavar="NAME", help="Only for this service [all]. Repeat.",
              shell_complete=completing("service"))  # fmt: skip
@click.option("--scope", multiple=True, type=click.Choice(calls.SCOPES), help="What it is for [infer, http]. Repeat.")
@click.option("--expires", type=DURATION, metavar="TIME", help="Good for so long, such as 30d [for ever].")
@click.option("--requests", type=int, metavar="N", help="At most so many requests a minute.")
@click.option("--tokens", type=int, metavar="N", help="At most so many tokens a minute, of prompts and answers.")
@click.option("--concurrency", type=int, metavar="N", help="At most so many requests at once.")
@click.option("--budget", type=int, metavar="N", help="At most so many tokens over its whole life.")
@click.option("--weight", type=float, metavar="W", help="Of its share where requests wait [1].")
@click.option("--priority", type=int, metavar="0-100", help="Of its requests among those that wait [50].")
@click.argument("name", required=False)
def create(
    invocation: Invocation, name: str | None, services: tuple[str, ...], scope: tuple[str, ...], **options: Any
) -> None:
    """Make the token NAME. Its secret is printed now and never again (with --quiet, alone).

    \b
      skerry service token create alice --service chat --expires 30d --requests 60
    """
    limits = {field: value for key, field in LIMITS.items() if (value := options.pop(key)) is not None}
    body: dict[str, Any] = {
        "name": name,
        "services": list(services),
        "scopes": list(scope),
        "limits": limits,
        **options,
    }
    made = invocation.ask(
        calls.create_token({key: value for key, value in body.items() if value not in (None, [], {})})
    )
    invocation.output.one(made, str(made["secret"]), name="secret")
    if not invocation.output.json:
        shown = made["token"]
        invocation.output.note(
            f"token {shown['name']} ({shown['id']}): the line above is its secret; it is not shown again"
        )


@command("list")
@click.option("--revoked", is_flag=True, help="Those that were revoked too.")
def list_tokens(invocation: Invocation, revoked: bool) -> None:
    """List tokens, without their secrets. SPENT is how many tokens of its budget are gone."""
    items = invocation.run(
        flows.gather(lambda page: calls.tokens_page(revoked=revoked, limit=flows.PAGE_ITEMS, page_token=page))
    )
    columns: Columns = {
        "NAME": lambda item: item["name"],
        "ID": lambda item: item["id"],
        "ENDS IN": lambda item: f"…{item['hint']}",
        "SERVICES": lambda item: ", ".join(parts(item["spec"], "services")) or "all",
        "SCOPES": lambda item: ", ".join(parts(item["spec"], "scopes")),
        "LIMITS": limits_of,
        "SPENT": lambda item: item["spent"],
        "EXPIRES": lambda item: local_time(item.get("expires_at")) or "never",
        "LAST USED": lambda item: f"{age(item['used_at'])} ago" if item.get("used_at") else "never",
    }
    if revoked:
        columns["REVOKED"] = lambda item: local_time(item.get("revoked_at")) or "-"
    invocation.output.many(items, columns)


def limits_of(item: Any) -> str:
    given = part(item["spec"], "limits")
    return ", ".join(f"{given[field]} {SHOWN[key]}" for key, field in LIMITS.items() if given.get(field)) or "none"


@command("revoke")
@yes_option
@click.option("--force", "-f", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True)
def revoke(invocation: Invocation, names: tuple[str, ...], yes: bool, force: bool) -> None:
    """The tokens NAMES let nobody in any more, within seconds."""
    invocation.confirm(f"Revoke {', '.join(names)}?", yes or force)
    invocation.meant = "; `skerry service token list` shows those that are good"
    for name in names:
        body = invocation.ask(calls.revoke_token(name))
        invocation.output.one(body, f"{name} revoked")
