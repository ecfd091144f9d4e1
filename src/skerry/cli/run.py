"""`skerry run`: a sandbox for one command."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from skerry.cli import execute
from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, image_argument, port_forward_option
from skerry.cli.output import is_terminal
from skerry.cli.spec_options import spec_from, spec_options
from skerry.cli.tail_command import PassThroughTail, tail_argument
from skerry.client import flows
from skerry.client.calls import commands as exec_calls
from skerry.client.calls import sandboxes as calls
from skerry.client.calls.commands import RunOptions
from skerry.errors import NotFound, SkerryError


@command("run", cls=PassThroughTail)
@click.option("--interactive", "-i", is_flag=True, help="Send our stdin to the command.")
@click.option("--tty", "-t", is_flag=True, help="Give it a terminal.")
@click.option("--keep", is_flag=True, help="Do not delete the sandbox afterwards; --name keeps it too.")
@click.option("--rm", is_flag=True, help="Delete it afterwards, even with --name.")
@click.option(
    "--timeout", type=DURATION, metavar="TIME", help="Kill the command after this; the exit code is then 124."
)
@port_forward_option
@spec_options
@image_argument
@tail_argument(required=False)
def run(
    invocation: Invocation,
    image: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    keep: bool,
    rm: bool,
    timeout: float | None,
    port_forward: bool,
    **options: Any,
) -> int:
    """Make a sandbox from IMAGE, run COMMAND in it (a shell, if none is given) and delete it.

    \b
      skerry run debian:12 -- sh -c 'echo $HOSTNAME'
      skerry run -it debian:12
      skerry run --name web --cpu 2 debian:12 -- apt-get update
    """
    body = spec_from(image, options)
    named = "name" in body
    # A name of our own choice, so that an interrupt during creation leaves something we can delete.
    name = body.setdefault("name", f"run-{os.urandom(5).hex()}")
    made = not named
    try:
        record = invocation.run(
            flows.settle(lambda wait_s: calls.create(body, wait_s), lambda had: calls.get(had["id"]))
        )
        made, name = True, record["id"]
        return _run_in(invocation, name, command, tty=tty, stdin=interactive, timeout=timeout, forward=port_forward)
    finally:
        if rm or not (keep or named):
            if made:
                _delete(invocation, name)
        else:
            invocation.output.note(f"{body['name']} is kept: `skerry rm {body['name']}` deletes it")


def _run_in(
    invocation: Invocation,
    name: str,
    command: tuple[str, ...],
    *,
    tty: bool,
    stdin: bool,
    timeout: float | None,
    forward: bool,
) -> int:
    options: RunOptions = {"timeout_s": timeout}
    words = command or ("/bin/sh", "-c", execute.SHELL)
    if tty or stdin:
        return execute.interact(invocation, name, words, options, tty=tty, stdin=stdin, forward=forward)
    if not command:
        on_terminal = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        return execute.interact(invocation, name, words, options, tty=on_terminal, stdin=True, forward=forward)
    body = exec_calls.exec_body(words, options)
    if invocation.output.json:
        result = invocation.ask(exec_calls.run(name, body))
        invocation.output.emit({"sandbox": name, **result})
        return execute.exit_of(result["exit"])
    return execute.stream(invocation, name, body)


def _delete(invocation: Invocation, name: str) -> None:
    try:
        # Intent is enough: the server deletes it without us.
        invocation.ask(calls.delete(name))
    except NotFound:
        pass
    except SkerryError as error:
        invocation.output.note(f"error: {name} is still there: {error.say}")
