"""Tiers: how much a workload's start and stay are worth, in Borg's five steps, and who may take whose place."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field


class Tier(StrEnum):
    """From the least to the most, after Borg's bands (Tirmazi et al., "Borg: the Next Generation", EuroSys 2020)."""

    FREE = "free"  # runs on what is left, promised nothing
    BEST_EFFORT = "best-effort"  # batch work; what jobs are unless they say otherwise
    MID = "mid"  # batch work that somebody waits for
    PRODUCTION = "production"  # what people and programs talk to; what sandboxes are unless they say otherwise
    MONITORING = "monitoring"  # watches the rest, and is never made room of

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {tier: rank for rank, tier in enumerate(Tier)}

PRIORITY_DEFAULT = 50
Priority = Annotated[int, Field(ge=0, le=100)]
"""Within a tier; more is sooner. A lower tier never comes before a higher one, whatever its priority."""


def preempts(tier: Tier, other: Tier) -> bool:
    """Whether work of `tier` may have work of `other` stopped to get its room."""
    return tier.rank > other.rank and other is not Tier.MONITORING
