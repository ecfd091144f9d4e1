"""What one call of `skerry` knows: where the server is, how to print, what was looked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
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

    @property
    def is_interactive(self) -> bool:
        """Whether there is a person to ask."""
        return is_terminal(sys.stdin) and is_terminal(sys.stderr)

    @cached_property
    def members(self) -> dict[str, str]:
        """Sandboxes of the skerry.yaml of this folder, or of one above: key -> name on the server."""
        return self._project.get("members", {})

    @property
    def jobs(self) -> dict[str, str]:
        """Its jobs, likewise."""
        return self._project.get("jobs", {})

    @property
    def services(self) -> dict[str, str]:
        """And its services."""
        return self._project.get("services", {})

    @property
    def primary(self) -> str | None:
        """Its sandbox that is meant where none is named."""
        return self._project.get("primary")

    @cached_property
    def _project(self) -> dict[str, Any]:
        try:
            folder = os.getcwd()
        except OSError:
            return {}  # the folder that we are in has been removed
        while not os.path.isfile(os.path.join(folder, "skerry.yaml")):
            above = os.path.dirname(folder)
            if above == folder:
                return {}
            folder = above
        # Imported only where there is one: `skerry exec` elsewhere must not pay for it.
        from skerry.environment.project import FILE, ProjectState

        return ProjectState(Path(folder) / FILE, self.environ).read_members()

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before what cannot be undone; scripts, which have no terminal, are not asked."""
        if yes or not self.is_interactive:
            return
        if not click.confirm(question, default=False, err=True):
            raise click.exceptions.Exit(1)
