"""Tokens of services: whom a gateway lets in, to what, and how much of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from skerry.model.fields import Duration, Frozen, Name

TOKEN_PREFIX = "st_"
SERVICES_MAX = 64


class Scope(StrEnum):
    INFER = "infer"  # chat, completions, embeddings and what else models do
    HTTP = "http"  # any path of the service by its host name
    METRICS = "metrics"


class Limits(Frozen):
    """None: no limit. Over all gateways together."""

    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Of prompts and answers."""
    concurrency: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Requests at once."""
    budget_tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Over its whole life."""


class TokenSpec(Frozen):
    name: Name | None = None
    """None: we choose a free one."""
    services: Annotated[list[Name], Field(max_length=SERVICES_MAX)] = []
    """Empty: all of the project."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=8)] = [Scope.INFER, Scope.HTTP]
    expires: Annotated[Duration, Field(gt=0, le=10 * 31_536_000)] | None = None
    """Seconds from now, or text such as 30d. None: never."""
    limits: Limits = Limits()
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Of its share where requests wait: who has 2 gets twice as many tokens as who has 1."""
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Of its requests among those that wait, before fairness."""


class Token(Frozen):
    """The record; the token itself is shown once, and kept as a hash."""

    id: str
    project: str
    name: str
    spec: TokenSpec
    hint: str
    """Its last characters."""
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    spent: int = 0
    """Tokens of its budget that are gone."""


class MadeToken(Frozen):
    token: Token
    secret: str


class Metered(Frozen):
    """What somebody used of a service in one hour, as gateways told it."""

    service: str
    """Its id."""
    model: str
    client: str
    """Name of the token or key; empty: nobody was asked."""
    hour: datetime
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Of answering, all requests together."""
