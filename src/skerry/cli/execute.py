"""`skerry exec` and `skerry shell`: a command in a sandbox, its output as it comes, its exit code as ours."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from skerry.cli import exit_codes
from skerry.cli.invocation import Invocation
from skerry.cli.options import DURATION, command, env_pairs, port_forward_option, sandbox_argument, sandbox_or_primary
from skerry.cli.output import is_terminal, part
from skerry.cli.tail_command import PassThrough, PassThroughTail, tail_argument
from skerry.client import wire
from skerry.client.calls import commands as calls
from skerry.client.calls.commands import RunOptions
from skerry.errors import Invalid, Unavailable

SHELL = 'for s in "$SHELL" /bin/bash /bin/sh; do [ -n "$s" ] && [ -x "$s" ] && exec "$s"; done; exec sh'
"""The user's own shell if the sandbox names one, else bash, else sh."""


@command("exec", cls=PassThroughTail)
@click.option("--interactive", "-i", is_flag=True, help="Send our stdin to the command.")
@click.option("--tty", "-t", is_flag=True, help="Give it a terminal.")
@click.option("--detach", "-d", is_flag=True, help="Leave it running; print its session id.")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone takes yours. Repeat.")
@click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE", help="Lines of KEY=VALUE.")
@click.option("--workdir", "-w", metavar="PATH", help="Working folder [the sandbox's].")
@click.option("--user", "-u", metavar="USER[:GROUP]", help="Run as this user [the sandbox's].")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Kill it after this; the exit code is then 124.")
@port_forward_option
@sandbox_argument
@tail_argument(required=True)
def execute(
    invocation: Invocation,
    sandbox: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    detach: bool,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    timeout: float | None,
    port_forward: bool,
) -> int:
    """Run COMMAND in SANDBOX.

    \b
      skerry exec web ls -l /srv
      skerry exec -it web bash
      skerry exec -i web -- tar x -C /srv < site.tar
    """
    options: RunOptions = {
        "env": env_pairs(env, env_file) or None,
        "workdir": workdir,
        "user": user,
        "timeout_s": timeout,
    }
    if detach:
        session = invocation.ask(calls.start(sandbox, calls.exec_body(command, options, tty=tty or None)))
        invocation.output.one(session, session["id"])
        return 0
    if interactive or tty:
        return interact(invocation, sandbox, command, options, tty=tty, stdin=interactive, forward=port_forward)
    body = calls.exec_body(command, options)
    if invocation.output.json:
        result = invocation.ask(calls.run(sandbox, body))
        invocation.output.emit(result)
        return exit_of(result["exit"])
    return stream(invocation, sandbox, body)


@command("shell", cls=PassThrough)
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE", help="Environment. Repeat.")
@click.option("--workdir", "-w", metavar="PATH", help="Working folder [the sandbox's].")
@click.option("--user", "-u", metavar="USER[:GROUP]", help="Be this user [the sandbox's].")
@port_forward_option
@sandbox_or_primary
def shell(
    invocation: Invocation,
    sandbox: str,
    env: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    port_forward: bool,
) -> int:
    """Open a shell in SANDBOX; with a script on stdin, run it there.

    While a terminal is open, ports on which programs listen there are the same ports of 127.0.0.1 here.
    """
    options: RunOptions = {"env": env_pairs(env) or None, "workdir": workdir, "user": user}
    on_terminal = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    words = ("/bin/sh", "-c", SHELL)
    return interact(invocation, sandbox, words, options, tty=on_terminal, stdin=True, forward=port_forward)


def stream(invocation: Invocation, sandbox: str, body: dict[str, Any]) -> int:
    """Run to the end without stdin: one HTTP request, and nothing to import for it."""
    frames = wire.Frames()
    with invocation.transport.stream(calls.stream(sandbox, body)) as answer:
        for chunk in answer:
            for frame in frames.feed(chunk):
                end = show(frame)
                if end is not None:
                    return exit_of(end)
    raise Unavailable("the connection ended before the command did")


def interact(
    invocation: Invocation,
    sandbox: str,
    command: tuple[str, ...],
    options: RunOptions,
    *,
    tty: bool,
    stdin: bool,
    forward: bool = True,
) -> int:
    """`forward`: while it has a terminal, its ports are reached on ours."""
    from skerry.cli import terminal
    from skerry.cli.forwarding import forwarding

    more: dict[str, Any] = {}
    if tty:
        if stdin and not is_terminal(sys.stdin):
            raise Invalid("-t needs a terminal as stdin; leave it out to send a file or pipe")
        env = {"TERM": os.environ.get("TERM", "xterm"), **part(options, "env")}
        rows, columns = terminal.size()
        more = {"tty": True, "env": env, "size": {"rows": rows, "columns": columns}}
    body = calls.exec_body(command, options, **more)
    with invocation.transport.exec_socket(calls.path(sandbox)) as socket:
        socket.send_spec(body)
        with forwarding(invocation.transport, sandbox, tty and forward):
            return exit_of(terminal.converse(socket, tty=tty, stdin=stdin))


def show(frame: wire.Frame) -> Any:
    """Print a frame of output; the exit, if that is what it is."""
    channel, payload = frame
    if channel == wire.EXIT:
        return json.loads(payload)
    stream = sys.stderr.buffer if channel == wire.STDERR else sys.stdout.buffer
    stream.write(payload)
    stream.flush()
    return None


def exit_of(end: Any) -> int:
    """Our exit code for a command's; says why where a code alone would puzzle."""
    if end.get("oom"):
        sys.stderr.write("skerry: the command was killed: out of memory\n")
    if end.get("timed_out"):
        sys.stderr.write("skerry: the command was killed: it ran longer than allowed\n")
    code = end.get("code")
    return exit_codes.SKERRY_FAILED if code is None else int(code)
