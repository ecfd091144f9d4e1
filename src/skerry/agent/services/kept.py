"""What is known of the services of each sandbox, on disk, so that an agent that died can go on without starting any
service twice: a start is written down before it is made."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from skerry.model.fields import Frozen
from skerry.model.guest_service import GuestServiceSpec, GuestServiceStatus


class Kept(Frozen):
    """One service."""

    status: GuestServiceStatus
    spec: GuestServiceSpec
    """By which it was started."""
    exec_name: str | None = None
    """Of its command, if one may run."""
    token: dict[str, str] | None = None
    """Of the same; None between the writing down of a start and its having been made."""
    failures: int = 0


_ALL = TypeAdapter(dict[str, Kept])


class KeptServices:
    """One small file for each sandbox, replaced by rename. Not fsynced: after a power cut nothing runs either."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, sandbox_id: str) -> dict[str, Kept]:
        try:
            return _ALL.validate_json(self._path(sandbox_id).read_bytes())
        except FileNotFoundError:
            return {}
        except (ValidationError, OSError):
            # Set aside, not guessed at. What runs by it runs on unwatched until its sandbox stops.
            self._path(sandbox_id).replace(self._path(sandbox_id).with_suffix(".unreadable"))
            return {}

    def write(self, sandbox_id: str, kept: dict[str, Kept]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(sandbox_id)
        scratch = path.with_suffix(".new")
        scratch.write_bytes(_ALL.dump_json(kept))
        scratch.chmod(0o600)  # a spec may hold secrets in env
        os.replace(scratch, path)

    def remove(self, sandbox_id: str) -> None:
        for suffix in (".json", ".new", ".unreadable"):
            self._path(sandbox_id).with_suffix(suffix).unlink(missing_ok=True)

    def _path(self, sandbox_id: str) -> Path:
        return self._folder / f"{sandbox_id}.json"
