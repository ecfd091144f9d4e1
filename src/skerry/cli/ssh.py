"""`skerry ssh` and `skerry ssh-config`: the system's own ssh client, with a key, a host key and no questions."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, NoReturn

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, sandbox_or_primary, sought
from skerry.cli.tail_command import PassThroughTail, tail_argument
from skerry.client import flows
from skerry.client.calls import sandboxes as sandbox_calls
from skerry.client.calls import ssh as calls
from skerry.client.ssh_files import SUFFIX, SshFiles, block
from skerry.errors import Unsupported


@command("ssh", cls=PassThroughTail)
@click.option("-A", "forward_agent", is_flag=True, help="Lend the sandbox your ssh-agent.")
@click.option("-L", "local", multiple=True, metavar="PORT:localhost:PORT", help="Forward a port. Repeat.")
@click.option("-D", "dynamic", multiple=True, metavar="PORT", help="SOCKS proxy into the sandbox. Repeat.")
@click.option("-N", "nothing", is_flag=True, help="Run nothing; only forward.")
@click.option("-t", "tty", is_flag=True, help="Give COMMAND a terminal.")
@click.option("-o", "more", multiple=True, metavar="OPTION=VALUE", help="An option of ssh's own. Repeat.")
@click.option("--user", "-u", metavar="USER", help="Be this user [the sandbox's].")
@click.option("--command", "-c", "line", metavar="LINE", help="Run this line, as vagrant has it.")
@sandbox_or_primary
@tail_argument(required=False)
def ssh(
    invocation: Invocation,
    sandbox: str,
    command: tuple[str, ...],
    forward_agent: bool,
    local: tuple[str, ...],
    dynamic: tuple[str, ...],
    nothing: bool,
    tty: bool,
    more: tuple[str, ...],
    user: str | None,
    line: str | None,
) -> NoReturn:
    """Log in to SANDBOX, or run COMMAND there. As with ssh, its words are joined and read by the shell there.

    \b
      skerry ssh web
      skerry ssh web -- make -C /srv/app test
      skerry ssh -c 'make test'             in the primary one of a skerry.yaml
      skerry ssh -N -L 8080:localhost:80 web
    """
    program = shutil.which("ssh", path=invocation.environ.get("PATH"))
    if program is None:
        raise Unsupported("there is no ssh on this machine: run `apt-get install openssh-client`")
    way = SshFiles(invocation.environ).way(invocation.transport, sandbox)
    arguments = ["ssh", "-F", "none"]
    for pair in more:  # the first of two settings counts
        arguments += ["-o", pair]
    for name, value in way.options(user=user).items():
        arguments += ["-o", f"{name}={value}"]
    for flag, given in (("-A", forward_agent), ("-N", nothing), ("-t", tty)):
        arguments += [flag] if given else []
    for flag, values in (("-L", local), ("-D", dynamic)):
        for value in values:
            arguments += [flag, value]
    if line is not None and command:
        raise click.UsageError("give -c LINE or -- COMMAND, not both")
    tail = [line] if line is not None else list(command)
    arguments += [way.id, *(["--", *tail] if tail else [])]
    sys.stdout.flush()
    # In our place: terminal, signals and exit code are ssh's own.
    os.execve(program, arguments, dict(invocation.environ))


@command("ssh-config")
@click.option("--write", is_flag=True, help="Have ~/.ssh/config include them, instead of printing.")
@click.option("--revoke", is_flag=True, help="Let no key into these sandboxes any more, whoever holds it.")
@click.option("--forward-agent", "-A", is_flag=True, help="Lend these sandboxes your ssh-agent at each login.")
@click.option("--user", "-u", metavar="USER", help="Be this user [the sandbox's].")
@click.argument("sandboxes", nargs=-1, callback=sought("sandbox"))
def ssh_config(
    invocation: Invocation,
    sandboxes: tuple[str, ...],
    write: bool,
    revoke: bool,
    forward_agent: bool,
    user: str | None,
) -> None:
    """Host blocks for SANDBOXES, or for all, as NAME.skerry: for ssh, scp, sftp, rsync, VS Code Remote and Ansible.

    \b
      skerry ssh-config --write web && scp site.tar web.skerry:
      skerry ssh-config web > hosts && ssh -F hosts web.skerry
    """
    if write and revoke:
        raise click.UsageError("give --write or --revoke, not both")
    if revoke and not sandboxes:
        raise click.UsageError("--revoke needs the names of sandboxes")
    files = SshFiles(invocation.environ)
    records = [invocation.ask(sandbox_calls.get(name)) for name in sandboxes] or _all(invocation)
    if revoke:
        _revoke(invocation, files, records)
        return
    made: list[dict[str, Any]] = []
    for record in records:
        way = files.way(invocation.transport, record["id"])
        options = way.options(user=user) | {"ForwardAgent": "yes" if forward_agent else "no"}
        made.append({"name": record["name"] + SUFFIX, "id": way.id, "options": options})
        if write:
            host = record["name"] + SUFFIX
            files.keep_block(way.id, host, block(record["name"], way.id, options) + "\n")
    if write:
        config = files.include()
        text = "\n".join(f"{each['name']} is in {config}" for each in made)
    else:
        text = "\n\n".join(block(each["name"].removesuffix(SUFFIX), each["id"], each["options"]) for each in made)
    if invocation.output.json:
        invocation.output.emit(made)
    elif text:
        invocation.output.line(text)


def _all(invocation: Invocation) -> list[Any]:
    """Those that have a machine: only they can be logged in to."""
    found = invocation.run(flows.gather(lambda token: sandbox_calls.list_page(page_token=token)))
    return [record for record in found if record.get("node")]


def _revoke(invocation: Invocation, files: SshFiles, records: list[Any]) -> None:
    for record in records:
        invocation.ask(calls.revoke(record["id"]))
        files.forget(record["id"])
        invocation.output.one(record, f"no key opens {record['name']} any more")
