"""The models of this machine on its disk: each file once, by the digest of its content, and a tree of links for each
model, which is what sandboxes mount.

    blobs/SHA256            every file, read-only
    trees/MODEL_ID/…        hard links to them, under the names that the model gives them
    entries/MODEL_ID.json   written when its tree is whole, and removed before it: an entry never lies
    unfinished/KEY/         files on their way (`fetch.py`)

A file that no tree has is what a pull that was cut off had finished; it waits for the next one for a while.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from skerry.errors import Failed, Invalid, NoRoom, NotFound
from skerry.model.amounts import format_size
from skerry.model.weights import MadeModel, ModelFile

LEFT_S_MAX = 7 * 86_400.0
"""How long what an unfinished pull has fetched waits for the next one."""
_ID = re.compile(r"mod-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_id(model_id: str) -> str:
    """Ids become file names, so nothing else may pass; raises Invalid."""
    if not _ID.fullmatch(model_id):
        raise Invalid("a model's id is 'mod-' and 12 hex digits", field="model_id")
    return model_id


class ModelCache:
    def __init__(self, folder: Path, *, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._blobs = folder / "blobs"
        self._trees = folder / "trees"
        self._entries = folder / "entries"
        self.unfinished = folder / "unfinished"
        self._made: dict[str, MadeModel] = {}
        self._held: list[set[str]] = []

    def open(self, now_s: float) -> None:
        """Read all entries; trees without one are dropped, and what lies about for too long."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self._blobs, self._trees, self._entries, self.unfinished):
            folder.mkdir(exist_ok=True, mode=0o755)
        self._made = {}
        for path in self._entries.iterdir():
            try:
                if path.suffix != ".json" or not (self._trees / path.stem).is_dir():
                    raise ValueError("not the entry of a tree")
                self._made[check_id(path.stem)] = MadeModel.model_validate_json(path.read_bytes())
            except (ValidationError, ValueError, Invalid):
                path.unlink()
        for tree in self._trees.iterdir():
            if tree.name not in self._made:
                shutil.rmtree(tree)
        for work in self.unfinished.iterdir():
            if not _SHA256.fullmatch(work.name):  # of a conversion or an archive, which nobody goes on with
                shutil.rmtree(work)
        self.forget_left(now_s - LEFT_S_MAX)

    def models(self) -> list[str]:
        return sorted(self._made)

    def find(self, model_id: str) -> MadeModel | None:
        return self._made.get(check_id(model_id))

    def path(self, model_id: str) -> Path:
        """What to mount. Raises NotFound."""
        if self.find(model_id) is None:
            raise NotFound(f"this machine has no model {model_id}")
        return self._trees / model_id

    @contextmanager
    def holding(self) -> Generator[set[str]]:
        """Names of files, finished or not, that somebody is at work with: put into it, they stay."""
        names: set[str] = set()
        self._held.append(names)
        try:
            yield names
        finally:
            self._held = [each for each in self._held if each is not names]

    def _is_held(self, name: str) -> bool:
        return any(name in names for names in self._held)

    def has(self, sha256: str) -> bool:
        return self._blob(sha256).exists()

    def take(self, file: Path, sha256: str) -> None:
        """A finished file, whose content has been checked: it is ours from now on. One that is here stays, as models
        are linked to it."""
        if self.has(sha256):
            file.unlink()
            return
        file.chmod(0o444)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        os.replace(file, self._blob(sha256))

    def put(self, model_id: str, made: MadeModel) -> None:
        """The tree of files that are all here, then its entry."""
        tree, draft = self._trees / check_id(model_id), self._trees / f".new-{model_id}"
        shutil.rmtree(draft, ignore_errors=True)
        self.link(made.files, draft)
        shutil.rmtree(tree, ignore_errors=True)
        draft.rename(tree)
        entry = self._entries / f"{model_id}.json"
        fresh = entry.with_suffix(".new")
        with fresh.open("w") as opened:
            opened.write(made.model_dump_json())
            opened.flush()
            os.fsync(opened.fileno())
        fresh.rename(entry)
        self._made[model_id] = made

    def link(self, files: Iterable[ModelFile], folder: Path) -> None:
        """A tree of them, which costs no room."""
        for file in files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            try:
                os.link(self._blob(file.sha256), path)
            except FileNotFoundError:
                raise Failed(f"{file.path} is missing from this machine's models; pull the model again") from None

    def remove(self, model_id: str) -> None:
        """Idempotent. Files that other models have too stay."""
        made = self._made.pop(check_id(model_id), None)
        (self._entries / f"{model_id}.json").unlink(missing_ok=True)
        shutil.rmtree(self._trees / model_id, ignore_errors=True)
        for file in made.files if made else ():
            self.drop(file.sha256)

    def drop(self, sha256: str) -> None:
        """Idempotent: a file that no model has and nobody is at work with."""
        with suppress(FileNotFoundError):
            if self._blob(sha256).stat().st_nlink == 1 and not self._is_held(sha256):
                self._blob(sha256).unlink()

    def expect(self, more_bytes: int) -> None:
        """Raises NoRoom where so much does not fit, also without what pulls that were cut off have left."""
        if self._fits(more_bytes):
            return
        self.forget_left(float("inf"))
        if not self._fits(more_bytes):
            raise NoRoom(
                f"the disk of this machine's models has no room for {format_size(more_bytes)}", retry_after_s=10
            )

    def _fits(self, more_bytes: int) -> bool:
        return shutil.disk_usage(self._folder).free - more_bytes >= self._reserve_bytes

    def forget_left(self, older_than_s: float) -> None:
        for path in self.unfinished.iterdir():
            if not self._is_held(path.name) and path.stat().st_mtime < older_than_s:
                shutil.rmtree(path, ignore_errors=True)
        for path in self._blobs.iterdir():
            found = path.stat()
            if not self._is_held(path.name) and found.st_nlink == 1 and found.st_mtime < older_than_s:
                path.unlink()

    def path_of(self, file: ModelFile) -> Path:
        """Of a file that is here."""
        return self._blob(file.sha256)

    def read(self, file: ModelFile, bytes_max: int) -> bytes:
        """The beginning of a file that is here."""
        with self._blob(file.sha256).open("rb") as opened:
            return opened.read(bytes_max)

    def _blob(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise Failed("a digest is 64 hex digits")
        return self._blobs / sha256
