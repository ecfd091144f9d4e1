"""A group of commands that imports each when it is used, and knows near misses of their names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from skerry.cli.invocation import Invocation
from skerry.cli.table import Entry
from skerry.model.nearness import did_you_mean


class LazyGroup(click.Group):
    def __init__(
        self,
        *arguments: Any,
        entries: Mapping[str, Entry],
        habits: Mapping[str, str] | None = None,
        shorthand: str | None = None,
        **attributes: Any,
    ) -> None:
        """`shorthand`: the command that is meant where something else than a command follows the group's name."""
        super().__init__(*arguments, **attributes)
        self.entries = entries
        self.habits = habits or {}
        self.shorthand = shorthand

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in self.entries.items() if entry.section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.home.partition(":")
        return getattr(import_module(module), attribute)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"-h", "--help"} if args[:1] != ["--"] else set[str]()
        if self.shorthand and args and args[0] not in self.entries and args[0] not in own:
            invocation = ctx.find_object(Invocation)
            if invocation is not None:
                invocation.meant = did_you_mean(args[0], self.entries)
            args = [self.shorthand, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.entries and not name.startswith("-"):
            raise click.UsageError(f"there is no command {name!r}{self._suggestion(name)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: list[str] = list(dict.fromkeys(entry.section for entry in self.entries.values() if entry.section))
        for section in sections:
            with formatter.section(section):
                formatter.write_dl(
                    [(name, entry.says) for name, entry in self.entries.items() if entry.section == section]
                )

    def _suggestion(self, name: str) -> str:
        if name in self.habits:
            return f"; here it is: {self.habits[name]}"
        return did_you_mean(name, self.entries)
