"""What is told of a service that does not stand as it should."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from skerry.model.rollout import Phase, Rollout, RolloutStatus
from skerry.model.sandbox import S
from skerry.model.service import Health, Replica, Service, ServiceSpec, ServiceState
from skerry.model.serving import REPLICAS_TOLD_MAX, told

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def replica(number: int, health: Health, **more: Any) -> Replica:
    found = Replica(
        sandbox=f"sbx-{number}", name=f"web-{number}", revision=1, state=S.RUNNING, health=health, created_at=NOW
    )
    return found.model_copy(update=more)


def test_it_says_why_there_are_so_many_why_it_is_not_healthy_and_what_replicas_are_at() -> None:
    spec = ServiceSpec(name="web", image="x", port=80)
    service = Service(
        id="svc-1", project="default", name="web", state=ServiceState.ACTIVE, spec=spec, wanted=3,
        wanted_reason="in-flight is 40 over 30 s, 16 for each", status=Health.DEGRADED, reason="1 of 3 are healthy",
        retry_at=NOW, failures=2, created_at=NOW, updated_at=NOW, revision=2,
        rollout=RolloutStatus(
            type=Rollout.ROLLING, revision=2, phase=Phase.STOPPED, reason="web-4 failed", since=NOW
        ),
    )  # fmt: skip
    replicas = [
        replica(1, Health.HEALTHY),
        replica(2, Health.PROVISIONING, reason="it waits for a place"),
        replica(3, Health.HEALTHY, draining=True),
    ]
    assert told(service, replicas) == [
        "It is to have 3 replicas: in-flight is 40 over 30 s, 16 for each.",
        "It is degraded: 1 of 3 are healthy.",
        "The next replica is made at 12:00:00 UTC, after 2 failures.",
        "Revision 2 by rolling is stopped: web-4 failed.",
        "web-2 is provisioning: it waits for a place.",
        "web-3 drains: it is given no new requests, and goes when it has ended those it has.",
    ]
    many = [replica(at, Health.UNHEALTHY) for at in range(REPLICAS_TOLD_MAX + 7)]
    assert told(service, many)[-1] == "7 more do not serve."
