"""The first start makes one key, for the operator: the secret in a file for root alone, its hash in the database."""

from __future__ import annotations

import os
from pathlib import Path

from skerry.errors import AlreadyExists, Conflict
from skerry.store.keys import SECRET_BYTES, make_secret
from skerry.store.store import Store
from skerry.store.transaction import PROJECT

NAME = "admin"


async def ensure_first_key(store: Store, path: Path) -> None:
    """Only while there is no key at all. The file is written first: a crash in between leaves a file whose secret is
    taken up by the next start, and never a key that nobody knows."""
    async with store.read() as tx:
        if await tx.keys.count():
            return
    known = _read(path)
    secret = known or _write(path, make_secret(os.urandom(SECRET_BYTES)))
    try:
        async with store.write() as tx:
            if not await tx.keys.count():
                await tx.keys.create(NAME, PROJECT, secret)
                return
    except (AlreadyExists, Conflict):
        pass
    if known is None:
        path.unlink()  # another control program was first, and its file has the key that opens


def _read(path: Path) -> str | None:
    try:
        secret = path.read_text().strip()
    except FileNotFoundError:
        return None
    return secret if len(secret) == len(make_secret(bytes(SECRET_BYTES))) else None


def _write(path: Path, secret: str) -> str:
    """Whole or not at all, and never readable by others for a moment."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, f"{secret}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(unfinished, path)
    return secret
