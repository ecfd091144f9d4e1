"""Bytes that only who has the key file can read: control seals what it stores, the agent opens what it is sent."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.errors import Failed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
FORM = "1"
"""Of the text `FORM.KEY_ID.BASE64(nonce + AES-256-GCM)`. The id says which key it needs, so that there may be another
one day: then the file holds both, the new one seals, and either opens."""


class Sealer:
    """Reads the key at each use, and keeps nothing of it."""

    def __init__(self, key_path: Path) -> None:
        self._key_path = key_path

    def make_key(self) -> None:
        """Once, and on the disk before anything is sealed with it; a key that is there stays."""
        path = self._key_path
        if path.exists():
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, os.urandom(KEY_BYTES).hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):  # another control program was first: its key is the key
            os.link(unfinished, path)
        unfinished.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def has_key(self) -> bool:
        return self._key_path.exists()

    def seal(self, value: bytes, bound_to: str) -> str:
        """`bound_to`: what it is a value of. Put in another's place it does not open."""
        key = self._key()
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + _cipher(key).encrypt(nonce, value, bound_to.encode())
        return f"{FORM}.{_id_of(key)}.{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, bound_to: str) -> bytes:
        """Raises Failed where the key is not the one it was sealed with, or the text was changed or moved."""
        from cryptography.exceptions import InvalidTag

        key = self._key()
        form, key_id, text = [*sealed.split(".", 2), "", ""][:3]
        if form != FORM:
            raise Failed("a sealed value is of a form that this Skerry does not know: install the newer Skerry again")
        if key_id != _id_of(key):
            raise Failed(
                f"a value was sealed with another key than is in {self._key_path}: put the old file back, or set the "
                "secret anew"
            )
        try:
            raw = base64.b64decode(text, validate=True)
            return _cipher(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound_to.encode())
        except (InvalidTag, ValueError):
            # Without its cause: no traceback of it, or of what called it, may get to a log.
            raise Failed("a sealed value does not open: it was changed, or is another secret's; set it anew") from None

    def _key(self) -> bytes:
        path = self._key_path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise Failed(
                f"{path} is missing, and without it no secret can be read: put it back from your backup"
            ) from None
        except OSError as error:
            raise Failed(f"{path} cannot be read: {error.strerror}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise Failed(f"{path} may be read by others than its owner: run `chmod 600 {path}` as root")
            text = os.read(descriptor, 2 * KEY_BYTES + 1).strip()
        finally:
            os.close(descriptor)
        try:
            key = bytes.fromhex(text.decode())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise Failed(f"{path} does not hold a key: put it back from your backup")
        return key


def _cipher(key: bytes) -> AESGCM:
    # Imported where it is used: programs that see no secret are spared its 6 MiB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"skerry key id\0" + key).hexdigest()[:8]
