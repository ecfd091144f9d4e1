"""How a service goes from one revision to the next: what a user may declare of it, and how far it has come."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from skerry.model.fields import Frozen
from skerry.model.scaling import REPLICAS_MAX


class Rollout(StrEnum):
    ROLLING = "rolling"  # replaced one after the other
    CANARY = "canary"  # the new revision gets `weight` of the traffic until it is promoted
    BLUE_GREEN = "blue-green"  # the new revision is there in full, without traffic, until it is promoted
    RECREATE = "recreate"  # all old ones end before new ones begin


class Strategy(Frozen):
    type: Rollout = Rollout.ROLLING
    surge: Annotated[int, Field(ge=0, le=REPLICAS_MAX)] = 1
    """More than wanted while replacing."""
    unavailable: Annotated[int, Field(ge=0, le=REPLICAS_MAX)] = 0
    """Fewer than wanted that serve while replacing."""
    weight: Annotated[int, Field(ge=0, le=100)] = 10
    """Percent of the traffic for a canary."""

    @model_validator(mode="after")
    def _can_move(self) -> Strategy:
        if self.type is Rollout.ROLLING and not self.surge and not self.unavailable:
            raise ValueError("surge and unavailable: at least one of them must be more than 0")
        return self


class Phase(StrEnum):
    GOING_ON = "going-on"
    PAUSED = "paused"  # by hand; resumed by hand
    READY = "ready"  # a canary, or the other colour, is there and waits to be promoted
    STOPPED = "stopped"  # new replicas do not become healthy; the old ones serve on


class RolloutStatus(Frozen):
    """Of a service whose newest revision is not the one in production."""

    type: Rollout
    revision: int
    """That it goes to."""
    phase: Phase = Phase.GOING_ON
    reason: str | None = None
    promoted: bool = False
    """A canary that takes the place of the rest."""
    since: datetime

    @property
    def is_staged(self) -> bool:
        """Whether it gets no more of the traffic than a canary."""
        return self.type in (Rollout.CANARY, Rollout.BLUE_GREEN) and not self.promoted


class RolloutAction(StrEnum):
    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"  # back to what is in production
    ROLLBACK = "rollback"  # to the revision before, or to a given one


class RolloutRequest(Frozen):
    action: RolloutAction
    revision: Annotated[int, Field(ge=1)] | None = None
    """Of `rollback`. None: the one before."""
