"""The one way from state to state: every noun's MOVES table names its arrows and who owns each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from skerry.errors import IllegalMove

S = TypeVar("S", bound=StrEnum)

Moves = Mapping[tuple[S, S], str]
"""(from, to) -> owner: the name of the one reconciler (or `api`) that may take this arrow."""


def move(moves: Moves[S], now: S, to: S) -> S:
    """Return `to` if the table has the arrow; raises IllegalMove with both ends otherwise."""
    if (now, to) not in moves:
        raise IllegalMove(f"cannot go from {now.value} to {to.value}")
    return to
