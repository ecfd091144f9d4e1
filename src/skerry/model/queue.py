"""A queue: some of the nodes, and the rules by which work waits for them and shares them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from skerry.model.amounts import format_size
from skerry.model.fields import Duration, Frozen, Labels, Name
from skerry.model.resources import Amounts, Selector, Total
from skerry.model.tier import Tier

QUEUES_MAX = 256
QUOTAS_MAX = 1000


class Policy(StrEnum):
    """Who is next, among work of one tier."""

    FIFO = "fifo"  # whoever came first
    PRIORITY = "priority"  # the highest priority, which grows with waiting; then whoever came first
    FAIR_SHARE = "fair-share"  # whoever has least of what is theirs: dominant shares, by project and then by user


class Strategy(StrEnum):
    """Which of the nodes where it fits."""

    PACK = "pack"  # the fullest
    SPREAD = "spread"  # the emptiest
    FRAGMENTATION = "fragmentation"  # where least is made useless to what typically comes (FGD, USENIX ATC 2023)
    AUTO = "auto"  # ours: as fragmentation, with work that needs no accelerator kept off those that are idle


class Preemption(Frozen):
    """When work is stopped to make room for work of a higher tier, or for what a quota guarantees."""

    enabled: bool = True
    grace_s: Annotated[Duration, Field(ge=0, le=3600)] = 30.0
    """Between asking it to end (SIGTERM) and ending it."""
    minimum_run_s: Annotated[Duration, Field(ge=0, le=86_400)] = 60.0
    """What has run for less is left alone, so that work gets somewhere."""
    budget_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Workloads stopped in any hour, at most."""


class Quota(Frozen):
    """What a project, or one of its users, may have of a queue."""

    project: Name
    user: Name | None = None
    """None: all users of the project together."""
    guaranteed: Amounts = Amounts()
    """Theirs whenever they ask: what others borrowed of it is taken back."""
    limit: Amounts = Amounts()
    """Never more than this, what is borrowed counted."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Of its fair share."""
    pending_max: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    running_max: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


QueueLimit = Annotated[int, Field(ge=1, le=1_000_000)]
SmallShare = Annotated[float, Field(ge=0, le=0.9)]
LongTime = Annotated[Duration, Field(gt=0, le=31_536_000)]
Quotas = Annotated[list[Quota], Field(max_length=QUOTAS_MAX)]
CpuOvercommit = dict[Tier, Annotated[float, Field(ge=1, le=10_000)]]
MemoryOvercommit = dict[Tier, Annotated[float, Field(ge=1, le=1000)]]


class QueueSpec(Frozen):
    name: Name
    nodes: Selector = {}
    """Labels of the nodes that are its members. Empty: all. A node may be in several queues."""
    policy: Policy = Policy.FAIR_SHARE
    strategy: Strategy = Strategy.AUTO
    backfill: bool = True
    """Work behind the one that is next starts if that cannot delay it; needs max_duration."""
    aging_s: LongTime | None = 3600.0
    """Waiting so long is worth one point of priority. None: priorities stay."""
    half_life_s: LongTime | None = 86_400.0
    """What was used so long ago counts half in fair shares. None: only what is used now counts."""
    small_share: SmallShare = 0.1
    """Part of the queue's nodes, by resources, that work of more than its share may not fill, so that small work never
    waits for it. 0: none."""
    pending_max: QueueLimit = 10_000
    running_max: QueueLimit | None = None
    max_duration: LongTime | None = None
    """Longest that work in it may ask for; also what work has that asks for none."""
    quotas: Quotas = []
    preemption: Preemption = Preemption()
    cpu_overcommit: CpuOvercommit = {}
    """Cores promised per real one, to work of a tier. What is not named: as the server is set."""
    memory_overcommit: MemoryOvercommit = {}
    labels: Labels = {}

    @model_validator(mode="after")
    def _quotas_are_of_different_people(self) -> QueueSpec:
        seen: set[tuple[str, str | None]] = set()
        for number, quota in enumerate(self.quotas):
            whose = (quota.project, quota.user)
            if whose in seen:
                said = f"user {quota.user} of project {quota.project}" if quota.user else f"project {quota.project}"
                raise ValueError(f"quotas[{number}]: {said} has a quota already")
            seen.add(whose)
        return self

    @model_validator(mode="after")
    def _guaranteed_is_within_the_limit(self) -> QueueSpec:
        for number, quota in enumerate(self.quotas):
            for name, guaranteed, limit in _both(quota):
                if guaranteed > limit:
                    more, most = _shown(name, guaranteed), _shown(name, limit)
                    raise ValueError(f"quotas[{number}].guaranteed.{name}: {more} is more than its limit, {most}")
        return self


def _both(quota: Quota) -> list[tuple[str, float, float]]:
    """(resource, guaranteed, limit) of what has both."""
    guaranteed, limit = _flat(quota.guaranteed), _flat(quota.limit)
    return [(name, amount, limit[name]) for name, amount in guaranteed.items() if name in limit]


def _flat(amounts: Amounts) -> dict[str, float]:
    plain = {name: getattr(amounts, name) for name in ("cpu", "memory", "gpu")}
    kinds = {f"gpu_kinds.{kind}": count for kind, count in amounts.gpu_kinds.items()}
    extras = {f"extras.{name}": count for name, count in amounts.extras.items()}
    return {name: amount for name, amount in {**plain, **kinds, **extras}.items() if amount is not None}


def _shown(name: str, amount: float) -> str:
    return format_size(int(amount)) if name == "memory" else f"{amount:g}"


class PreemptionUpdate(Frozen):
    enabled: bool | None = None
    grace_s: Annotated[Duration, Field(ge=0, le=3600)] | None = None
    minimum_run_s: Annotated[Duration, Field(ge=0, le=86_400)] | None = None
    budget_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


CLEARABLE = frozenset({"aging_s", "half_life_s", "running_max", "max_duration"})
"""Fields of the update in which null is a value. In the others it is the same as not given."""


class QueueUpdate(Frozen):
    """What may change of a queue: all but its name, at once and for what waits in it already. What runs stays."""

    nodes: Selector | None = None
    """In place of all of them, as with every field that is a list or a mapping."""
    policy: Policy | None = None
    strategy: Strategy | None = None
    backfill: bool | None = None
    aging_s: LongTime | None = None
    """Null: priorities stay."""
    half_life_s: LongTime | None = None
    """Null: only what is used now counts."""
    small_share: SmallShare | None = None
    pending_max: QueueLimit | None = None
    running_max: QueueLimit | None = None
    """Null: no limit, as with the next."""
    max_duration: LongTime | None = None
    quotas: Quotas | None = None
    preemption: PreemptionUpdate | None = None
    """Of its fields only those that are given."""
    cpu_overcommit: CpuOvercommit | None = None
    memory_overcommit: MemoryOvercommit | None = None
    labels: Labels | None = None

    def spec_after(self, was: QueueSpec) -> QueueSpec:
        """`was` with what is given. Raises ValidationError where the two do not go together."""
        asked = self.model_dump(exclude_unset=True)
        given: dict[str, Any] = {
            field: value for field, value in asked.items() if value is not None or field in CLEARABLE
        }
        if "preemption" in given:
            changed = {field: value for field, value in given["preemption"].items() if value is not None}
            given["preemption"] = {**was.preemption.model_dump(), **changed}
        return QueueSpec.model_validate({**was.model_dump(), **given})


class Queue(Frozen):
    """The record."""

    id: str
    name: str
    spec: QueueSpec
    version: int = 1
    """Counts its changes, so that of two who change it at once one is told."""
    created_at: datetime
    updated_at: datetime


class Share(Frozen):
    """What a project, or one of its users, has of a queue, and what its rules give it."""

    project: str
    user: str | None = None
    """None: all users of the project together."""
    used: Total = Total()
    guaranteed: Amounts = Amounts()
    limit: Amounts = Amounts()
    borrowed: Total = Total()
    """What it uses beyond its guarantee, of that which is guaranteed to anybody in the queue."""
    weight: float = 1.0
    pending: int = 0
    running: int = 0
    """Sandboxes that have a place, also while they start, sleep or stop."""
    pending_max: int | None = None
    running_max: int | None = None


class QueueWithUse(Queue):
    """The record with what is so at this moment: sums over nodes and over the sandboxes that have a place."""

    nodes: int
    """Its members."""
    nodes_ready: int
    """Those of them that take more work: they answer, and are neither cordoned nor draining."""
    total: Total
    """Of its members that answer."""
    used: Total
    """By its own work."""
    taken: Total
    """By any work on its members: a node may be in several queues."""
    pending: int
    running: int
    shares: list[Share] = []
    """Of each project and of each user who has a quota, or has work in it."""
