"""Which tree on the host a guest's path belongs to: its disk, or a host folder or volume mounted in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skerry.errors import Invalid
from skerry.runtime.contract import HostMount

PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255
HIDDEN = frozenset({"proc", "sys", "dev"})
"""Made by the kernel for each running sandbox; what the disk has under these names nobody ever sees."""

Parts = tuple[str, ...]
"""A path as its names, without empty ones and '.'. Bytes that are not UTF-8 are kept as surrogate escapes."""


@dataclass(frozen=True)
class View:
    """What a sandbox or checkpoint shows: the root of its disk, and over it the host folders and volumes."""

    root: Path
    mounts: Sequence[HostMount] = ()
    readonly: bool = False


class Roots(Protocol):
    """Where trees are; the agent's own books."""

    async def sandbox_view(self, sandbox_id: str, *, wake: bool = True) -> View:
        """Wakes it, unless told not to. Raises NotFound when this machine has no disk of it."""
        ...

    async def checkpoint_view(self, checkpoint_id: str) -> View: ...


def parse_path(path: str, field: str = "path") -> Parts:
    """The names of an absolute guest path, or Invalid that says what is wrong with it."""
    try:
        size_bytes = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise Invalid("the path is not valid text", field=field) from None
    if size_bytes > PATH_BYTES_MAX:
        raise Invalid(f"the path has {size_bytes} bytes; at most {PATH_BYTES_MAX} are allowed", field=field)
    if "\0" in path:
        raise Invalid("the path contains a NUL byte", field=field)
    if not path.startswith("/"):
        raise Invalid("expected an absolute path in the sandbox, such as /srv/data", field=field)
    parts = split(path)
    if ".." in parts:
        raise Invalid("'..' is not allowed in this path", field=field)
    for name in parts:
        if len(os.fsencode(name)) > NAME_BYTES_MAX:
            raise Invalid(f"a name in the path is longer than {NAME_BYTES_MAX} bytes", field=field)
    return parts


def split(path: str) -> Parts:
    return tuple(name for name in path.split("/") if name not in ("", "."))


def readable(name: str) -> str:
    """Valid text for answers and messages: a byte that is not UTF-8 is shown as \\xNN, so that no guest can make a
    listing that a strict JSON reader refuses. Such a file is reached by its exact bytes, %NN in the query."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def spell(parts: Sequence[str]) -> str:
    """The path as answers show it."""
    return readable("/" + "/".join(parts))
