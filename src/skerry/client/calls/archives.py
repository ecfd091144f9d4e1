"""Calls about archives: a sandbox with its checkpoints as a file, and a file as a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skerry.client import parse
from skerry.client.call import Call, Data
from skerry.client.calls.sandboxes import SANDBOXES, path

if TYPE_CHECKING:
    from skerry.model.sandbox import Sandbox

STEP_S = 3600.0
"""The server reads whole disks before it begins to answer."""


def export(ref: str) -> Call[Any]:
    return Call("GET", path(ref, "archive"), accept="application/x-tar", reply_s=STEP_S)


def import_(
    data: Data, name: str | None = None, *, start: bool | None = None, drop: Sequence[str] = ()
) -> Call[Sandbox]:
    query = {"name": name, "start": start, "drop": list(drop)}
    return Call("POST", f"{SANDBOXES}/import", parse.sandbox, query=query, data=data, reply_s=STEP_S)
