"""How a sandbox is doing as a whole, by its own health or its services', and what that means for who waits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.model.sandbox import S, Sandbox, SandboxSpec
from skerry.model.standing import Outlook, Standing, Wish, outlook, standing

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sandbox(state: S = S.RUNNING, *, spec: dict[str, Any] | None = None, **known: Any) -> dict[str, Any]:
    """As the API tells of it, so that a field renamed in the model fails here."""
    known = {
        "services": [{"name": name, "state": it, "since": NOW} for name, it in known.pop("services", {}).items()]
    } | known
    record = {"id": "sb-1", "project": "default", "name": "box", "state": state, "generation": 1, "created_at": NOW}
    declared = SandboxSpec.model_validate({"image": "debian:12", **(spec or {})})
    return Sandbox.model_validate({**record, "spec": declared, "updated_at": NOW, **known}).model_dump(mode="json")


SERVICES = {"services": {name: {"command": [name]} for name in ("db", "web")}}
HEALTH = {"health": {"tcp": True, "port": 80}}
SLEEP = {"since": NOW, "why": "idle"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (sandbox(), ("healthy", False)),
        (sandbox(S.STARTING, reason="waits"), ("starting", False)),
        (sandbox(S.STOPPED), ("ended", True)),
        (sandbox(spec=HEALTH), ("starting", False)),
        (sandbox(spec=HEALTH, health={"state": "unhealthy", "since": NOW}), ("unhealthy", False)),
        (sandbox(spec=HEALTH | SERVICES, health={"state": "healthy", "since": NOW}), ("healthy", False)),
        (sandbox(spec=SERVICES), ("starting", False)),
        (sandbox(spec=SERVICES, services={"db": "healthy", "web": "done"}), ("healthy", False)),
        (sandbox(spec=SERVICES, services={"db": "waiting", "web": "healthy"}), ("starting", False)),
        (sandbox(spec=SERVICES, services={"db": "backing-off", "web": "starting"}), ("unhealthy", False)),
        (sandbox(spec=SERVICES, services={"db": "unhealthy", "web": "failed"}), ("unhealthy", True)),
        (sandbox(spec=SERVICES, services={"db": "stopped", "web": "healthy"}), ("unhealthy", True)),
        (sandbox(S.ASLEEP, spec=SERVICES, asleep={"tier": "cold", **SLEEP}), ("healthy", False)),
        (
            sandbox(S.ASLEEP, spec=SERVICES, asleep={"tier": "warm", **SLEEP}, services={"db": "unhealthy"}),
            ("unhealthy", False),
        ),
    ],
)
def test_standing(given: dict[str, Any], expected: tuple[str, bool]) -> None:
    found = standing(given)
    assert (found.state, found.final) == expected


def test_reasons_name_what_is_in_the_way() -> None:
    failed = sandbox(spec=SERVICES, services={"db": "healthy", "web": "failed"})
    assert outlook(failed, Wish.HEALTHY) == Outlook(False, "service web is failed")
    ended = sandbox(S.STOPPED, exit={"reason": "exited", "code": 3, "at": NOW})
    assert standing(ended) == Standing("ended", "it is stopped: exited with code 3", final=True)
    assert standing(sandbox(S.FAILED, reason="no room")).reason == "it failed: no room"


@pytest.mark.parametrize("state", S)
def test_whatever_state_a_wish_is_met_to_come_or_past(state: S) -> None:
    met = {wish: outlook(sandbox(state), wish) for wish in Wish}
    assert met[Wish.RUNNING].met is met[Wish.HEALTHY].met is (state in (S.RUNNING, S.ASLEEP))
    assert met[Wish.STOPPED].met is (state is S.STOPPED)
    assert (met[Wish.RUNNING].never is not None) is (met[Wish.HEALTHY].never is not None)
    assert (met[Wish.STOPPED].never is not None) is (state in (S.FAILED, S.DELETING, S.DELETED))
