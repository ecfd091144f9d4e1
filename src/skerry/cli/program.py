"""The `skerry` command itself: finds commands, imports them when used, turns errors into one line and an exit code."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from skerry import __version__
from skerry.cli import exit_codes, table
from skerry.cli.invocation import Invocation
from skerry.cli.lazy import LazyGroup
from skerry.cli.options import completing, json_option, quiet_option
from skerry.cli.output import is_terminal
from skerry.errors import SkerryError


@click.command(
    cls=LazyGroup,
    entries=table.COMMANDS,
    habits=table.HABITS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--context",
    metavar="NAME",
    shell_complete=completing("context"),
    help="Use this context for once; `local` is this machine.",
)
@click.option("--address", metavar="ADDRESS", help="Server: HOST:PORT, https://HOST or unix:///PATH [SKERRY_ADDRESS].")
@click.option("--project", metavar="NAME", help="Project to work in [SKERRY_PROJECT].")
@json_option
@quiet_option
@click.version_option(version=__version__, message="skerry %(version)s")
@click.pass_obj
def program(invocation: Invocation, context: str | None, address: str | None, project: str | None) -> None:
    """Sandboxes: whole computers that checkpoint, roll back and fork in milliseconds.

    \b
      skerry run debian:12 -- echo hello       try it
      skerry create debian:12 --name web       one that stays
      skerry shell web                         step inside
      skerry checkpoint web                    keep it as it is
      skerry restore web v1                    go back
      skerry init && skerry up                 many of them, from one file
    """
    invocation.context = context
    invocation.address = address
    invocation.project = project


def run(invocation: Invocation, arguments: list[str]) -> int:
    """The exit code; every failure has been told in one line on stderr."""
    try:
        ended: Any = program.main(arguments, prog_name="skerry", obj=invocation, standalone_mode=False)
        return ended if isinstance(ended, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the whole help text, which is no sentence.
        sys.stderr.write(f"{error.format_message()}\n")
        return exit_codes.USAGE
    except click.UsageError as error:
        _tell(invocation, error.format_message() + _habit(error, arguments))
        if error.ctx is not None and error.ctx.command_path and not invocation.output.json:
            sys.stderr.write(f"see `{error.ctx.command_path} --help`\n")
        return invocation.failure_code or exit_codes.USAGE
    except click.ClickException as error:
        _tell(invocation, error.format_message())
        return invocation.failure_code or exit_codes.FAILED
    except (click.Abort, KeyboardInterrupt):
        return exit_codes.INTERRUPTED
    except SkerryError as error:
        _tell(invocation, error.say + hint(invocation, error), error)
        return invocation.failure_code or exit_codes.code_of(error)


def hint(invocation: Invocation, error: SkerryError) -> str:
    from skerry.cli.suggest import hint_for

    return hint_for(invocation, error)


def _habit(error: click.UsageError, arguments: list[str]) -> str:
    """What another tool's option is here, or ""."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    said = table.OPTION_HABITS.get((command, getattr(error, "option_name", "")))
    return f" Here: {said}." if said else ""


def _tell(invocation: Invocation, text: str, error: SkerryError | None = None) -> None:
    if invocation.output.json:
        wire = error.wire()["error"] if error else {"code": "invalid"}
        sys.stderr.write(json.dumps({"error": {**wire, "message": text}}, ensure_ascii=False) + "\n")
        return
    mark = "error:"
    if is_terminal(sys.stderr) and not invocation.environ.get("NO_COLOR"):
        mark = f"\x1b[31m{mark}\x1b[0m"
    # The mistakes of a file are a line each; anything else is one sentence.
    lines: list[str] = getattr(error, "lines", None) or [text]
    for line in lines:
        sys.stderr.write(f"{mark} {' '.join(line.split())}\n")
