"""Routes of services' tokens: make one (its secret is shown once), list, revoke."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from skerry.control.api.answers import CREATED, LIMIT, Limit, ListOf, PageToken, one, page
from skerry.control.tokens import TokenRing
from skerry.errors import LimitReached, NotFound
from skerry.model.identity import make_id
from skerry.model.token import MadeToken, Token, TokenSpec
from skerry.store.keys import SECRET_BYTES
from skerry.store.store import Store
from skerry.store.tokens import make_token_secret
from skerry.store.transaction import PROJECT, Transaction

TOKENS_MAX = 10_000
HINT_CHARACTERS = 4


class TokenRoutes:
    def __init__(self, store: Store, ring: TokenRing) -> None:
        self._store = store
        self._ring = ring

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/tokens", tags=["tokens"])
        router.add_api_route("", self.create, methods=["POST"], status_code=CREATED, response_model=MadeToken)
        router.add_api_route("", self.list, methods=["GET"], response_model=ListOf[Token])
        router.add_api_route("/{ref}", self.get, methods=["GET"], response_model=Token)
        router.add_api_route("/{ref}", self.revoke, methods=["DELETE"], response_model=Token)
        return router

    async def create(self, spec: TokenSpec) -> Response:
        secret = make_token_secret(os.urandom(SECRET_BYTES))
        async with self._store.write() as tx:
            if await tx.tokens.count() >= TOKENS_MAX:
                raise LimitReached(f"there may be {TOKENS_MAX} tokens; revoke some")
            await _check_services(tx, spec)
            name = spec.name or f"token-{tx.chance(3).hex()}"
            token = Token(
                id=make_id("token", tx.chance(6)),
                project=PROJECT,
                name=name,
                spec=spec.model_copy(update={"name": name}),
                hint=secret[-HINT_CHARACTERS:],
                created_at=tx.now,
                expires_at=None if spec.expires is None else tx.now + timedelta(seconds=spec.expires),
            )
            await tx.tokens.create(token, secret)
        return one(MadeToken(token=token, secret=secret), CREATED)

    async def list(
        self,
        revoked: Annotated[bool, Query(description="Those that were revoked too")] = False,
        limit: Limit = LIMIT,
        page_token: PageToken = None,
    ) -> Response:
        async with self._store.read() as tx:
            return page(await tx.tokens.list(PROJECT, revoked=revoked, limit=limit, page_token=page_token))

    async def get(self, ref: str) -> Response:
        async with self._store.read() as tx:
            return one(await tx.tokens.find(ref, PROJECT))

    async def revoke(self, ref: str) -> Response:
        """It lets nobody in any more, and stays in the books."""
        async with self._store.write() as tx:
            token = await tx.tokens.revoke(await tx.tokens.find(ref, PROJECT))
        self._ring.forget()
        return one(token)


async def _check_services(tx: Transaction, spec: TokenSpec) -> None:
    """One that is misspelt would open nothing, and nobody would know why."""
    if not spec.services:
        return
    there = await tx.services.names(PROJECT)
    for number, name in enumerate(spec.services):
        if name not in there:
            field = f"services[{number}]"
            raise NotFound(f"{field}: there is no service {name}", field=field)
