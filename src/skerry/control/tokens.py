"""Tokens of services, looked up by their secrets and remembered for a moment."""

from __future__ import annotations

from skerry.clock import Clock
from skerry.errors import Unauthenticated
from skerry.model.token import TOKEN_PREFIX, Token
from skerry.model.traffic import Access
from skerry.store.keys import hash_secret
from skerry.store.store import Store

REMEMBERED_S = 2.0
REMEMBERED_MAX = 10_000
USED_EVERY_S = 60.0
"""The use of a token is written down at most so often, so that reading never costs a write."""
SECRET_CHARACTERS_MAX = 200
UNKNOWN = "this token is not known here"


class TokenRing:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._remembered: dict[str, tuple[float, Token]] = {}

    async def access(self, secret: str) -> Access:
        """Raises Unauthenticated; the sentence tells of a token only what its holder knows."""
        token = await self._token(secret)
        now = self._clock.now()
        if token.revoked_at is not None:
            raise Unauthenticated("this token was revoked; ask for another")
        if token.expires_at is not None and token.expires_at <= now:
            raise Unauthenticated("this token has expired; ask for another")
        if token.used_at is None or (now - token.used_at).total_seconds() > USED_EVERY_S:
            async with self._store.write() as tx:
                await tx.tokens.used([token.id])
            self._remembered.pop(hash_secret(secret), None)
        spec = token.spec
        return Access(
            project=token.project,
            client=token.name,
            id=token.id,
            services=spec.services,
            scopes=spec.scopes,
            limits=spec.limits,
            weight=spec.weight,
            priority=spec.priority,
            expires_at_s=None if token.expires_at is None else token.expires_at.timestamp(),
        )

    async def _token(self, secret: str) -> Token:
        if not secret.startswith(TOKEN_PREFIX) or len(secret) > SECRET_CHARACTERS_MAX or not secret.isascii():
            raise Unauthenticated(UNKNOWN)
        hashed, now_s = hash_secret(secret), self._clock.monotonic_s()
        known = self._remembered.get(hashed)
        if known is not None and known[0] > now_s:
            return known[1]
        async with self._store.read() as tx:
            token = await tx.tokens.with_secret(secret)
        if token is None:
            raise Unauthenticated(UNKNOWN)
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[hashed] = (now_s + REMEMBERED_S, token)
        return token

    def forget(self) -> None:
        """One was revoked: ask the database again about all."""
        self._remembered.clear()
