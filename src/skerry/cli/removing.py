"""Deleting what a command names, one after the other, each told as it is gone; one that fails does not keep the rest
from their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry.cli.invocation import Invocation
from skerry.errors import BY_CODE, Failed, SkerryError


def delete_each(
    invocation: Invocation, refs: Iterable[str], delete: Callable[[str], Any], said: str = "deleted"
) -> None:
    """`delete` returns the record of what is gone, if there still is one; `said`: after its name. Raises what kept the
    one that failed, or one error that says so of all that did."""
    output = invocation.output
    gone: list[Any] = []
    failures: list[SkerryError] = []
    for ref in refs:
        try:
            gone.append(delete(ref) or {"id": ref})
        except SkerryError as error:
            failures.append(error)
            continue
        if not output.json:
            output.line(str(gone[-1]["id"]) if output.quiet else f"{ref} {said}")
    if output.json:
        output.emit(gone)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        kinds = {error.code for error in failures}
        kind = BY_CODE.get(kinds.pop(), Failed) if len(kinds) == 1 else Failed
        raise kind("; ".join(error.say for error in failures))
