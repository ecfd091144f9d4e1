"""`skerry url`: where a port of a sandbox is reached from outside, by whom, and links that open it for a while."""

from __future__ import annotations

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, sandbox_argument
from skerry.cli.output import local_time
from skerry.client.calls import sandboxes, urls


@command("url")
@click.option("--expires", type=DURATION, metavar="TIME", help="Sign it: it opens without a key for so long, as 1h.")
@click.option("--public/--private", default=None, help="Let everybody open its URLs, or only who has a key or a link.")
@sandbox_argument
@click.argument("port", type=click.IntRange(1, 65_535), required=False)
def url(invocation: Invocation, sandbox: str, port: int | None, expires: float | None, public: bool | None) -> None:
    """The URL of PORT in SANDBOX; whoever opens it wakes the sandbox. Without PORT, the word PORT stands for it.

    \b
      skerry url web 8080                  for who has a key: Authorization: Bearer sk_...
      skerry url web 8080 --expires 1h     for who has the link
      skerry url web --public              from now on, for everybody
    """
    if expires is not None and port is None:
        raise click.UsageError("--expires needs a PORT: a link opens one port and no other")
    if public is not None:
        invocation.ask(sandboxes.update(sandbox, {"public": public}))
    if port is not None and expires is not None:
        made = invocation.ask(urls.sign(sandbox, port, expires))
        invocation.output.note(f"opens until {local_time(made['expires_at'])}")
    else:
        made = invocation.ask(urls.get(sandbox, port))
    if public is not None:
        invocation.output.note("public: everybody may open it" if public else "private: it takes a key or a link")
    invocation.output.one(made, made["url"], name="url")
