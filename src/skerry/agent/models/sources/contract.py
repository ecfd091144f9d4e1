"""What every place that models come from promises: a list of files, and any range of any of them."""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from skerry.errors import Invalid, NotFound, TooLarge
from skerry.model.amounts import format_size
from skerry.model.weights import PATH_MAX

FILES_MAX = 2000
DEPTH_MAX = 16
UNNEEDED = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.ot", "*.onnx*", "onnx/*", "original/*", "consolidated*")
"""The same weights in other forms, and pickles, which run code when they are loaded: left out beside safetensors."""


class Form(StrEnum):
    SHA256 = "sha256"
    GIT = "git"  # sha1 of a git blob
    MD5 = "md5"


@dataclass(frozen=True)
class Check:
    form: Form
    digest: str


@dataclass(frozen=True)
class Listed:
    path: str
    size_bytes: int
    check: Check | None
    """By what its content is known to be whole. None: only by its size."""
    identity: str
    """Differs where the content does: of two files with one identity the parts may be put together."""
    where: str = ""
    """For the source itself."""


@dataclass(frozen=True)
class Listing:
    files: tuple[Listed, ...]
    revision: str | None = None
    card: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of a ModelCard that the place tells."""


class NoRanges(Exception):
    """The place gives a file from its beginning only."""


class Source(Protocol):
    name: str
    """Of the place, for what is said of it."""

    async def list(self) -> Listing:
        """Raises NotFound, Forbidden, Unavailable, Invalid or Failed, each in one sentence."""
        ...

    def read(self, file: Listed, start: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` up to `end`. Raises as `list`, and NoRanges where `start` is not 0."""
        ...


def checked(files: Iterable[Listed], size_bytes_max: int) -> tuple[Listed, ...]:
    """Those of a listing, which may be hostile: no name leads out of its tree, none is in the way of another."""
    found = sorted(files, key=lambda file: file.path)
    if not found:
        raise NotFound("there are no files in it", field="source")
    if len(found) > FILES_MAX:
        raise TooLarge(f"it has {len(found)} files; at most {FILES_MAX} are allowed")
    total = 0
    seen: set[str] = set()
    folders: set[str] = set()
    for file in found:
        _check_path(file.path)
        if file.size_bytes < 0:
            raise Invalid(f"{file.path}: a size below 0")
        total += file.size_bytes
        parts = file.path.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if file.path in seen or file.path in folders or above & seen:
            raise Invalid(f"{file.path}: two files are in each other's way")
        seen.add(file.path)
        folders |= above
    if total > size_bytes_max:
        raise TooLarge(f"it is {format_size(total)}; at most {format_size(size_bytes_max)} are allowed")
    return tuple(found)


def _check_path(path: str) -> None:
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
    if bad or len(path) > PATH_MAX or len(parts) > DEPTH_MAX or not path.isprintable() or "\\" in path:
        raise Invalid(f"{path[:100]!r} is no name for a file of a model")


def wanted(files: Sequence[Listed], pattern: str | None) -> list[Listed]:
    """Those that `pattern` names, a file, a folder or with * and ?; else all that are needed. Raises NotFound."""
    if pattern:
        folder = pattern.rstrip("/") + "/"
        found = [file for file in files if file.path.startswith(folder) or fnmatch.fnmatchcase(file.path, pattern)]
        if not found:
            raise NotFound(f"no file of it is {pattern}", field="source")
        return found
    visible = [file for file in files if not file.path.startswith(".")]
    if any(file.path.endswith(".safetensors") for file in visible):
        return [file for file in visible if not any(fnmatch.fnmatchcase(file.path, each) for each in UNNEEDED)]
    return visible
