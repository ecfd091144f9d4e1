"""A key: what a program shows to be let in. Only its hash is kept."""

from __future__ import annotations

from datetime import datetime

from skerry.model.fields import Frozen, Name


class KeyRequest(Frozen):
    name: Name


class Key(Frozen):
    id: str
    project: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None


class NewKey(Key):
    secret: str
    """Shown once; keep it."""
