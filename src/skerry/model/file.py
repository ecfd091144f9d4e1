"""Files of a sandbox, as the files API speaks of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from skerry.model.fields import Frozen, GuestPath


class FileKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"  # socket, fifo, device


class FileInfo(Frozen):
    path: str
    name: str
    kind: FileKind
    size_bytes: int
    mode: str
    """Octal permission bits, such as "0644"."""
    uid: int
    gid: int
    modified_at: datetime
    target: str | None = None
    """Where a symlink points, unresolved."""


class FileList(Frozen):
    items: list[FileInfo]
    truncated: bool = False


class MkdirRequest(Frozen):
    path: GuestPath
    parents: bool = True
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3,4}$")] = "0755"


class RenameRequest(Frozen):
    source: GuestPath
    target: GuestPath


class FileEvent(Frozen):
    kind: Annotated[str, Field(pattern=r"^(created|modified|removed|renamed|overflow)$")]
    path: str
