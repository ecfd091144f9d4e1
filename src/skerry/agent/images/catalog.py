"""Which images this machine has and what each says about itself: one small file per image, beside the pool's trees."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from skerry.errors import Invalid, NotFound
from skerry.model.fields import Frozen
from skerry.model.image import ImageConfig

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class ImageEntry(Frozen):
    digest: str
    size_bytes: int
    config: ImageConfig = ImageConfig()
    comment: str = ""

    def told(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include={"digest", "size_bytes", "config"})


def check_digest(digest: str) -> str:
    """Digests become file names, so nothing else may pass; raises Invalid."""
    if not _DIGEST.fullmatch(digest):
        raise Invalid("an image digest is 'sha256:' and 64 hex digits", field="digest")
    return digest


class ImageCatalog:
    """A file is written after the image is in the pool and removed before it leaves, so a file never lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, ImageEntry] = {}

    def open(self, in_pool: list[str]) -> list[str]:
        """Read all entries; those without a tree are dropped. Returns digests in the pool that nobody knows."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entries = {}
        for path in self._folder.iterdir():
            try:
                entry = ImageEntry.model_validate_json(path.read_bytes())
            except ValidationError:
                path.unlink()
                continue
            if path.name == self._path(entry.digest).name and entry.digest in in_pool:
                self._entries[entry.digest] = entry
            else:
                path.unlink()
        return [digest for digest in in_pool if digest not in self._entries]

    def entries(self) -> list[ImageEntry]:
        return sorted(self._entries.values(), key=lambda entry: entry.digest)

    def find(self, digest: str) -> ImageEntry | None:
        return self._entries.get(digest)

    def get(self, digest: str) -> ImageEntry:
        entry = self._entries.get(digest)
        if entry is None:
            raise NotFound(f"this machine has no image {digest[:80]}")
        return entry

    def put(self, entry: ImageEntry) -> None:
        path = self._path(entry.digest)
        draft = path.with_suffix(".new")
        with draft.open("w") as file:
            file.write(entry.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        self._entries[entry.digest] = entry

    def remove(self, digest: str) -> None:
        self._entries.pop(digest, None)
        with suppress(FileNotFoundError):
            self._path(digest).unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{check_digest(digest).replace(':', '-')}.json"
