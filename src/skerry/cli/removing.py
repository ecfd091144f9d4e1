"""Deleting what a command names, one after the other, each told as it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry.cli.invocation import Invocation


def delete_each(
    invocation: Invocation, refs: Iterable[str], delete: Callable[[str], Any], said: str = "deleted"
) -> None:
    """`delete` returns the record of what is gone, if there still is one; `said`: after its name."""
    output = invocation.output
    gone: list[Any] = []
    for ref in refs:
        gone.append(delete(ref) or {"id": ref})
        if not output.json:
            output.line(str(gone[-1]["id"]) if output.quiet else f"{ref} {said}")
    if output.json:
        output.emit(gone)
