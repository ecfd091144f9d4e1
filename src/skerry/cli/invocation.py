"""What one call of `skerry` knows: where the server is, how to print, what was looked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from skerry.cli.output import Output, is_terminal

if TYPE_CHECKING:
    from skerry.client.call import Call
    from skerry.client.flows import Flow
    from skerry.client.target import Target
    from skerry.client.transport import Transport


class Invocation:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.output = Output(environ)
        self.address: str | None = None
        self.project: str | None = None
        self.context: str | None = None
        self.sought: list[tuple[str, str]] = []
        """(noun, name) of what the arguments name: material for "did you mean"."""
        self.meant: str | None = None
        """What else a word may have meant that was taken for a name."""
        self.failure_code: int | None = None
        """Exit code of any failure of our own, where a command's exit codes pass through."""
        self._transport: Transport | None = None

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            from skerry.client.transport import Transport

            self._transport = Transport(self.target())
        return self._transport

    def target(self) -> Target:
        from skerry.client.target import resolve

        return resolve(self.address, None, self.project, context=self.context, environ=self.environ)

    def ask(self, call: Call[Any]) -> Any:
        """The JSON of an answer; the CLI has no use for models."""
        return self.transport.json(call)

    def run(self, flow: Flow[Any]) -> Any:
        return self.transport.run(flow)

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before what cannot be undone; scripts, which have no terminal, are not asked."""
        if yes or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            return
        if not click.confirm(question, default=False, err=True):
            raise click.exceptions.Exit(1)
