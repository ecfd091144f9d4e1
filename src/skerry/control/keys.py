"""Who is calling: the key of a secret, looked up in the database and then remembered for a few seconds."""

from __future__ import annotations

from collections.abc import Callable

from skerry.clock import Clock
from skerry.errors import Unauthenticated
from skerry.model.key import Key
from skerry.store.keys import SECRET_PREFIX, hash_secret
from skerry.store.store import Store

REMEMBERED_S = 5.0
"""How long a key deleted by *another* control program still works here; one deleted here stops at once."""
REMEMBERED_MAX = 1024
USED_EVERY_S = 60.0
"""`last_used_at` is for people: written at most once a minute, so that reading never costs a write."""
SECRET_CHARACTERS_MAX = 200


class KeyRing:
    def __init__(self, store: Store, clock: Clock, later: Callable[[str], None]) -> None:
        """`later` is told the id of a key whose use should be written down."""
        self._store = store
        self._clock = clock
        self._later = later
        self._remembered: dict[str, tuple[float, Key]] = {}

    async def key_of(self, authorization: str | None) -> Key:
        """Raises Unauthenticated; the sentence never tells whether a key exists."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("a key is needed: send it as Authorization: Bearer sk_…")
        if not secret.startswith(SECRET_PREFIX) or len(secret) > SECRET_CHARACTERS_MAX or not secret.isascii():
            raise Unauthenticated("this key is not known here")
        hashed = hash_secret(secret)
        now_s = self._clock.monotonic_s()
        known = self._remembered.get(hashed)
        if known is not None and known[0] > now_s:
            return known[1]
        async with self._store.read() as tx:
            key = await tx.keys.with_secret(secret)
        if key is None:
            self._remembered.pop(hashed, None)
            raise Unauthenticated("this key is not known here")
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[hashed] = (now_s + REMEMBERED_S, key)
        if key.last_used_at is None or (self._clock.now() - key.last_used_at).total_seconds() > USED_EVERY_S:
            self._later(key.id)
        return key

    def forget(self) -> None:
        """A key was deleted: ask the database again about all."""
        self._remembered.clear()
