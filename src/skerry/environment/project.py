"""Where an environment's files are, and what is remembered of them: what commands in this folder go by."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry import __version__
from skerry.environment.reading import read_whole
from skerry.errors import Conflict, NotFound

FILE = "skerry.yaml"
OVERRIDE = "skerry.override.yaml"
"""Merged over skerry.yaml where it is there, as compose does: what one person wants otherwise."""
_MEMBERS, _DECLARED, _ALLOWED, _LOCK = "members.json", "declared.json", "allowed.json", "lock"


def find_files(given: Sequence[str], environ: Mapping[str, str], start: Path | None = None) -> list[Path]:
    """Those that were named (-f, SKERRY_FILE), else skerry.yaml here or in a folder above. Raises NotFound."""
    named = list(given) or [name for name in environ.get("SKERRY_FILE", "").split(os.pathsep) if name]
    if named:
        return [Path(name).absolute() for name in named]
    folder = find_folder(start)
    if folder is None:
        raise NotFound(f"there is no {FILE} here or in a folder above; `skerry init` writes one")
    return [path for path in (folder / FILE, folder / OVERRIDE) if path.is_file()]


def find_folder(start: Path | None = None) -> Path | None:
    try:
        here = start or Path(os.getcwd())
    except OSError:
        return None  # the folder that we are in has been removed
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
    return None


def state_folder(file: Path, environ: Mapping[str, str]) -> Path:
    """Where what is known of a file is kept: with the user, and not beside the file, whose folder sandboxes may write:
    what is read here is believed."""
    base = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or "~", ".local", "state")
    name = hashlib.sha256(os.path.realpath(file).encode()).hexdigest()[:16]
    return Path(base).expanduser() / "skerry" / "environments" / name


class ProjectState:
    """What this user's `skerry` remembers of one file: nothing in it is needed, all of it saves time or questions."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self.path = state_folder(file, environ)

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """One `up`, `down` or `destroy` at a time. Raises Conflict."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path / _LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Conflict("another `skerry` is at work on this environment; wait for it to end") from None
            yield

    def write_members(
        self,
        environment: str,
        members: Mapping[str, str],
        jobs: Mapping[str, str],
        services: Mapping[str, str],
        primary: str | None,
    ) -> None:
        """What each sandbox, job and service of the file is called on the server: `skerry ssh web` goes by it."""
        found = {"members": dict(members), "jobs": dict(jobs), "services": dict(services)}
        self._write(_MEMBERS, {"environment": environment, **found, "primary": primary})

    def read_members(self) -> dict[str, Any]:
        return self._read(_MEMBERS) or {}

    def write_declared(self, found: Declared) -> None:
        self._write(_DECLARED, found)

    def read_declared(self) -> Declared | None:
        return self._read(_DECLARED)

    def write_allowed(self, paths: Collection[str]) -> None:
        """Places outside the file's folder that the user has said this file may name."""
        self._write(_ALLOWED, sorted(paths))

    def read_allowed(self) -> list[str]:
        return self._read(_ALLOWED) or []

    def _write(self, name: str, content: Any) -> None:
        text = json.dumps(content)
        path = self.path / name
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                return
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path / f".{name}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(draft, path)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None


READ_BYTES_MAX = 4 * 1024 * 1024
"""Of one file; what is larger was refused by the load."""

Declared = dict[str, Any]
"""What a load came to, with all that it depends on: files by their digests, variables by their values."""


def fingerprint(files: Sequence[Path], asked: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """Of a load before it is done: the same again may be answered from what was kept."""
    return {
        "version": __version__,
        "files": [str(file) for file in files],
        "asked": {name: sorted(values) for name, values in asked.items()},
    }


def digests(files: Sequence[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        try:
            found[str(file)] = hashlib.sha256(read_whole(file, READ_BYTES_MAX)).hexdigest()
        except OSError:
            found[str(file)] = ""
    return found
