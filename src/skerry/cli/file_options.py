"""Options by which a command finds a skerry.yaml, and its sandboxes as arguments. Apart, so that a command which may
do without a file imports nothing of what reads one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from skerry.cli.invocation import Invocation

F = TypeVar("F", bound=Callable[..., Any])

_PROFILE = click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="Sandboxes of this profile too [SKERRY_PROFILES]."
)


def _file(*names: str) -> Callable[[F], F]:
    told = "Instead of skerry.yaml. Repeat to merge."
    return click.option(*names, "files", multiple=True, type=click.Path(), metavar="FILE", help=told)


def file_options(function: F) -> F:
    return _file("--file", "-f")(_PROFILE(function))


def file_options_long(function: F) -> F:
    """The same where -f has another meaning."""
    return _file("--file")(_PROFILE(function))


def names_argument(function: F) -> F:
    return click.argument("names", nargs=-1, shell_complete=_complete)(function)


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    known = Invocation(os.environ)
    return [name for name in (*known.members, *known.jobs, *known.services) if name.startswith(incomplete)]
