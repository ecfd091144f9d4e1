"""What a gateway is told of a service: where its replicas are, and how much each is to get."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from skerry.engines.catalog import engine
from skerry.engines.slots import slots
from skerry.model.rollout import Rollout
from skerry.model.sandbox import S, Sandbox
from skerry.model.scaling import OF_ENGINES
from skerry.model.service import Service, Slot
from skerry.model.serving import groups, is_serving, slot_of, weights
from skerry.model.traffic import RouteReplica, ServiceRoute


def service_route(service: Service, boxes: Sequence[Sandbox], now: datetime) -> ServiceRoute:
    """`boxes`: its replicas' sandboxes."""
    spec = service.spec
    replicas = [RouteReplica(id=address, url=address) for address in spec.addresses] or _replicas(service, boxes, now)
    staged = service.rollout is not None and slot_of(service, service.rollout.revision) is Slot.STAGING
    canary = staged and service.rollout is not None and service.rollout.type is Rollout.CANARY
    targets = spec.scaling.targets if spec.scaling is not None else []
    return ServiceRoute(
        id=service.id,
        name=service.name,
        project=service.project,
        state=service.state,
        engine=spec.engine,
        models=list(dict.fromkeys([service.name, *spec.models])),
        adapters=list(spec.adapters),
        public=spec.public,
        routing=spec.routing,
        replicas=replicas,
        wakes=not replicas and spec.scaling is not None and not spec.addresses,
        off=not replicas and spec.scaling is None and not spec.addresses and not sum(groups(service).values()),
        canary=spec.strategy.weight / 100 if canary else 0.0,
        slots=slots(engine(spec.engine), spec),
        watched=[each.key for each in targets if each.signal in OF_ENGINES],
    )


def _replicas(service: Service, boxes: Sequence[Sandbox], now: datetime) -> list[RouteReplica]:
    """Weights are as of 1 for one of production, so that a service without a canary has ones only."""
    shares = weights(service, boxes, now)
    most: dict[str, float] = {}
    for box in boxes:
        if box.id in shares and box.replica is not None and slot_of(service, box.replica.revision) is Slot.PRODUCTION:
            most[box.replica.role.value] = shares[box.id]
    found: list[RouteReplica] = []
    for box in boxes:
        replica = box.replica
        if replica is None or box.id not in shares or not is_serving(box, now):
            continue
        found.append(
            RouteReplica(
                id=box.id,
                url=f"http://{box.address}:{replica.port}",
                weight=round(shares[box.id] / most.get(replica.role.value, shares[box.id]), 6),
                role=replica.role,
                asleep=box.state is S.ASLEEP,
            )
        )
    return found
