"""`skerry help`: help on a command, and on what has no command: exit codes."""

from __future__ import annotations

import click

from skerry.cli import exit_codes
from skerry.cli.invocation import Invocation
from skerry.cli.options import command

TOPICS = {"exit-codes": exit_codes.TEXT}


def _commands(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from skerry.cli.program import program

    found: click.Command | None = program
    for word in ctx.params.get("words") or ():
        found = found.get_command(ctx, word) if isinstance(found, click.Group) else None
    known = [*found.list_commands(ctx), *(TOPICS if found is program else ())] if isinstance(found, click.Group) else []
    return [name for name in known if name.startswith(incomplete)]


@command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]…", shell_complete=_commands)
def help_command(invocation: Invocation, words: tuple[str, ...]) -> None:
    """Help on a command, such as `skerry help checkpoint diff`; or on a topic: exit-codes."""
    from skerry.cli.program import program

    if words and words[0] in TOPICS:
        invocation.output.line(TOPICS[words[0]].rstrip())
        return
    found: click.Command = program
    context = click.Context(program, info_name="skerry", obj=invocation)
    for word in words:
        below = found.get_command(context, word) if isinstance(found, click.Group) else None
        if below is None:
            raise click.UsageError(f"there is no help on {' '.join(words)!r}; topics: {', '.join(TOPICS)}")
        context = click.Context(below, info_name=word, parent=context)
        found = below
    invocation.output.line(found.get_help(context))
