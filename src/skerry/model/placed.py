"""Word that a sandbox has just been given a place: places are given by the hundred, and nobody reads the records."""

from __future__ import annotations

from typing import NamedTuple


class Placed(NamedTuple):
    id: str
    """Of the sandbox."""
