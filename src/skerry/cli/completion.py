"""`skerry completion`: the script that teaches a shell our commands and the names of sandboxes."""

from __future__ import annotations

import click

from skerry.cli.invocation import Invocation
from skerry.cli.options import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(invocation: Invocation, shell: str) -> None:
    """Print shell completion.

    \b
      bash:  skerry completion bash > /etc/bash_completion.d/skerry
      zsh:   skerry completion zsh > "${fpath[1]}/_skerry"
      fish:  skerry completion fish > ~/.config/fish/completions/skerry.fish
    """
    from click.shell_completion import get_completion_class

    from skerry.cli.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    invocation.output.line(kind(program, {}, "skerry", "_SKERRY_COMPLETE").source())
