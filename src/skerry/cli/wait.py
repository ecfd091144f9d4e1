"""`skerry wait`: until a sandbox is what a script needs it to be."""

from __future__ import annotations

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, sandbox_argument
from skerry.cli.output import part
from skerry.client import flows
from skerry.client.calls import sandboxes as calls
from skerry.model.standing import Wish


@command("wait")
@click.option(
    "--for",
    "until",
    type=click.Choice([wish.value for wish in Wish]),
    default="healthy",
    help="What for [healthy].",
)
@click.option("--timeout", type=DURATION, default=flows.TIMEOUT_S, metavar="TIME", help="How long to wait [10m].")
@sandbox_argument
def wait(invocation: Invocation, sandbox: str, until: str, timeout: float) -> None:
    """Wait until SANDBOX runs, is healthy (it and its services can do their work) or has stopped.

    Ends with 0 when it is so, with 1 when it can become so no more by itself, with 6 when the time is over. Of one that
    has stopped it prints the exit code of the main process.
    """
    body = invocation.run(flows.reach(lambda wait_s: calls.wait(sandbox, until, wait_s), until, timeout_s=timeout))
    code = part(body, "exit").get("code")
    text = f"{body['name']} is {until}" if until != "stopped" else str(code if code is not None else "unknown")
    invocation.output.one(body, text)
