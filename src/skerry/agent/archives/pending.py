"""Which imports have begun to make disks here and are neither kept nor given up: one small file for each."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from skerry.model.archive import ImportPending


class PendingImports:
    """A file is written before the first disk is made, and removed when control has said what becomes of them: an agent
    that died in between still knows what to ask about."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, ImportPending] = {}

    def open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._folder.iterdir():
            try:
                found = ImportPending.model_validate_json(path.read_bytes())
            except ValidationError:
                path.unlink()  # cut short while it was written: nothing had been made yet
                continue
            self._known[found.sandbox_id] = found

    def all(self) -> list[ImportPending]:
        return list(self._known.values())

    def get(self, sandbox_id: str) -> ImportPending | None:
        return self._known.get(sandbox_id)

    def put(self, pending: ImportPending) -> None:
        with self._path(pending.sandbox_id).open("w") as file:
            file.write(pending.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        self._known[pending.sandbox_id] = pending

    def remove(self, sandbox_id: str) -> None:
        self._path(sandbox_id).unlink(missing_ok=True)
        self._known.pop(sandbox_id, None)

    def _path(self, sandbox_id: str) -> Path:
        return self._folder / f"{sandbox_id}.json"
