"""Which public key opens which sandbox: a small file for each sandbox, which a restart of the agent leaves as it is.

Only public halves are here. Not in the journal, whose entries are rewritten at every step of a sandbox's life and may
be overwritten by a verb under way; a key that was handed out must not be lost that way.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from skerry.model.fields import Frozen
from skerry.model.ssh import SSH_KEYS_MAX, SshKey


class AllowedKey(SshKey):
    public_key: str
    """`ssh-ed25519 AAAA…`, without a comment."""

    def shown(self) -> SshKey:
        return SshKey(fingerprint=self.fingerprint, created_at=self.created_at, expires_at=self.expires_at)


class _Page(Frozen):
    keys: list[AllowedKey]


class KeyBook:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, list[AllowedKey]] = {}
        self._owners: dict[str, str] = {}
        """Fingerprint -> sandbox id."""

    def open(self, alive: set[str]) -> None:
        """Read what is there; what belongs to no sandbox of this machine goes."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._folder.glob("*.json"):
            try:
                page = _Page.model_validate_json(path.read_bytes())
            except (ValidationError, OSError):
                path.replace(path.with_suffix(".unreadable"))
                continue
            if path.stem in alive:
                self._keep(path.stem, page.keys)
            else:
                path.unlink()

    def of(self, sandbox_id: str, now: datetime) -> list[AllowedKey]:
        """Those that still open it, oldest first."""
        return [key for key in self._keys.get(sandbox_id, []) if key.expires_at > now]

    def owner_of(self, fingerprint: str, now: datetime) -> str | None:
        sandbox_id = self._owners.get(fingerprint)
        if sandbox_id is None or all(key.fingerprint != fingerprint for key in self.of(sandbox_id, now)):
            return None
        return sandbox_id

    def add(self, sandbox_id: str, key: AllowedKey) -> None:
        """On disk before this returns: whoever is given the other half may rely on it."""
        kept = [*self.of(sandbox_id, key.created_at), key][-SSH_KEYS_MAX:]
        scratch = self._folder / f"{sandbox_id}.new"
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(_Page(keys=kept).model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, self._path(sandbox_id))
        self._keep(sandbox_id, kept)

    def forget(self, sandbox_id: str) -> None:
        """No key opens it any more."""
        self._path(sandbox_id).unlink(missing_ok=True)
        self._keep(sandbox_id, [])

    def _keep(self, sandbox_id: str, keys: list[AllowedKey]) -> None:
        for old in self._keys.pop(sandbox_id, []):
            self._owners.pop(old.fingerprint, None)
        if keys:
            self._keys[sandbox_id] = keys
            self._owners |= {key.fingerprint: sandbox_id for key in keys}

    def _path(self, sandbox_id: str) -> Path:
        return self._folder / f"{sandbox_id}.json"
