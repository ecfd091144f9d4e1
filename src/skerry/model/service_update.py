"""What may change of a service that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from skerry.model.fields import Command, Duration, Env, Frozen, Labels, Name, Size, User
from skerry.model.network import Join
from skerry.model.resources import PlacementRules
from skerry.model.rollout import Strategy
from skerry.model.sandbox import Mounts, Network
from skerry.model.scaling import Scaling
from skerry.model.secret import Secrets
from skerry.model.service import EngineName, HealthCheck, Option, Role, Routing, ServiceSpec, as_command
from skerry.model.tier import Tier

MERGED = ("routing", "strategy", "scaling", "health", "network", "placement")
"""Of these only the fields that are given change."""

Shell = Annotated[Command, BeforeValidator(as_command)]


class ServiceUpdate(Frozen):
    """What is not given stays. Null is the field's default. What a replica runs by makes a new revision, which is
    rolled out; the rest holds at once."""

    engine: EngineName | None = None
    image: str | None = None
    command: Shell | None = None
    prepare: list[Shell] | None = None
    model: str | None = None
    models: list[str] | None = None
    adapters: dict[str, str] | None = None
    options: dict[str, Option] | None = None
    addresses: list[str] | None = None
    roles: dict[Role, int] | None = None
    port: int | None = None
    replicas: int | None = None
    scaling: Scaling | None = None
    """Null: not scaled by itself any more."""
    health: HealthCheck | None = None
    routing: Routing | None = None
    strategy: Strategy | None = None
    drain: Duration | None = None
    public: bool | None = None
    fork: bool | None = None
    cpu: float | None = None
    memory: Size | None = None
    disk: Size | None = None
    pids: int | None = None
    gpu: float | None = None
    gpu_kind: list[str] | None = None
    gpu_memory: Size | None = None
    extras: dict[str, int] | None = None
    env: Env | None = None
    """In place of all of it, as what follows."""
    workdir: str | None = None
    user: User | None = None
    mounts: Mounts | None = None
    secrets: Secrets | None = None
    network: Network | None = None
    networks: list[Join] | None = None
    queue: Name | None = None
    tier: Tier | None = None
    priority: int | None = None
    placement: PlacementRules | None = None
    labels: Labels | None = None

    def spec_after(self, was: ServiceSpec) -> ServiceSpec:
        """`was` with what is given. Raises ValidationError where the two do not go together."""
        after: dict[str, Any] = was.model_dump()
        for field, value in self.model_dump(exclude_unset=True).items():
            if value is None:
                after.pop(field)
            elif field in MERGED and isinstance(after[field], Mapping):
                after[field] = {**after[field], **value}
            else:
                after[field] = value
        return ServiceSpec.model_validate(after)
