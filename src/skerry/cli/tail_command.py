"""Commands that end with another command: `skerry exec [OPTIONS] BOX [--] COMMAND…`."""

from __future__ import annotations

from typing import Any

import click

from skerry.cli import exit_codes
from skerry.cli.invocation import Invocation


class PassThrough(click.Command):
    """Ends with the exit code of the command it ran, so any failure of our own has a code apart."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        invocation = ctx.find_object(Invocation)
        if invocation is not None:
            invocation.failure_code = exit_codes.SKERRY_FAILED
        return super().parse_args(ctx, args)


class TailCommand(click.Command):
    """Options may stand before and after the first argument; the trailing command begins at the second, or at `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._ordered(ctx, args))

    def _ordered(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options first, then `--`, then what no parser may touch."""
        before, rest = self._options(ctx, args)
        if not rest:
            return args
        if args[: len(args) - len(rest)][-1:] == ["--"] and (primary := self._primary(ctx)) is not None:
            return [*before, "--", primary, *rest]
        after, tail = self._options(ctx, rest[1:])
        return [*before, *after, "--", rest[0], *tail]

    def _primary(self, ctx: click.Context) -> str | None:
        """The sandbox that is meant by none, where one may be left out: `skerry ssh -- make`."""
        invocation = ctx.find_object(Invocation)
        optional = any(found.name == "sandbox" and not found.required for found in self.params)
        return invocation.primary if invocation is not None and optional else None

    def _options(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        """The options that `args` begin with, and the rest."""
        bare = click.Command(self.name, params=[found for found in self.params if isinstance(found, click.Option)])
        trial = click.Context(bare, info_name=ctx.info_name, parent=ctx.parent, resilient_parsing=True)
        trial.allow_interspersed_args = False
        _, rest, _ = bare.make_parser(trial).parse_args(list(args))
        options = args[: len(args) - len(rest)]
        return (options[:-1] if options[-1:] == ["--"] else options), rest


class PassThroughTail(PassThrough, TailCommand):
    pass


def tail_argument(required: bool) -> Any:
    return click.argument("command", nargs=-1, required=required, type=click.UNPROCESSED)
