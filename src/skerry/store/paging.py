"""Keyset paging: a page token is the place in creation order where the last page ended, opaque to the client."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Generic, TypeVar

from skerry.errors import Invalid

R = TypeVar("R")

PAGE_DEFAULT = 100
PAGE_MAX = 500


@dataclass(frozen=True)
class Page(Generic[R]):
    items: list[R]
    next_page_token: str | None


def make_token(sequence: int) -> str:
    return base64.urlsafe_b64encode(f"after:{sequence}".encode()).decode().rstrip("=")


def read_token(token: str | None) -> int:
    """The sequence to go on after; 0 for the first page."""
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(":")
        if word == "after" and number.isascii() and number.isdigit() and len(number) < 19:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise Invalid("page_token: give the next_page_token of an answer as it was", field="page_token")
