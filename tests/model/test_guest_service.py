"""Services as declared: what is refused, with the field's path; and what counts as news between two reports."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.model.circle import round_trip
from skerry.model.explain import explain
from skerry.model.guest_service import GuestServiceSpec, GuestServiceState, GuestServiceStatus, news
from skerry.model.sandbox import SandboxSpec

RUN = {"command": ["run"]}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def refusal(services: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(ValidationError) as caught:
        SandboxSpec.model_validate({"image": "debian:12", "services": services})
    error = explain(caught.value)
    return error.field, error.say


@pytest.mark.parametrize(
    ("services", "field", "say"),
    [
        ({"web": {**RUN, "needs": ["db"]}}, "services.web.needs[0]", "there is no service of this name"),
        ({"web": {**RUN, "needs": ["web"]}}, "services.web.needs", "web needs web"),
        (
            {"a": {**RUN, "needs": ["b"]}, "b": {**RUN, "needs": ["c"]}, "c": {**RUN, "needs": ["a"]}},
            "services.a.needs",
            "a needs b needs c needs a",
        ),
        ({"main": RUN}, "services.main", "reserved"),
        ({"A b": RUN}, "services.A b", "lower-case letters"),
        ({"a": {**RUN, "port": 80}, "b": {**RUN, "port": 80}}, "services.b.port", "service a has this port already"),
        ({"a": {**RUN, "health": {"tcp": True}}}, "services.a", "needs the service's port"),
        ({"a": {**RUN, "health": {}}}, "services.a.health", "exactly one of"),
        ({"a": {**RUN, "port": 1, "health": {"http": "health"}}}, "services.a.health.http", "such as /health"),
        ({"a": {**RUN, "restart": "sometimes"}}, "services.a.restart", "'always', 'on-failure' or 'never'"),
        ({"a": {"command": []}}, "services.a.command", "at least 1 is needed"),
        ({f"s{number}": RUN for number in range(33)}, "services", "at most 32"),
        (
            {"a": {**RUN, "restart": "never", "health": {"command": ["x"], "restart": True}}},
            "services.a",
            "this one never is",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(services: dict[str, Any], field: str, say: str) -> None:
    found_field, found_say = refusal(services)
    assert found_field == field
    assert say in found_say


graphs = st.integers(1, 8).flatmap(
    lambda count: st.lists(st.lists(st.integers(0, count - 1), max_size=3, unique=True), min_size=count, max_size=count)
)


@given(graphs)
def test_a_circle_is_found_if_there_is_one(needs: list[list[int]]) -> None:
    specs = {
        f"s{number}": GuestServiceSpec(command=["run"], needs=[f"s{need}" for need in each])
        for number, each in enumerate(needs)
    }
    reach = {name: set(spec.needs) for name, spec in specs.items()}
    for _ in specs:
        reach = {name: found.union(*(reach[need] for need in found)) for name, found in reach.items()}
    for name in specs:
        way = round_trip(name, lambda each: specs[each].needs)
        assert (way is not None) == (name in reach[name])
        if way is not None:
            assert way[0] == way[-1] == name
            assert all(need in specs[user].needs for user, need in itertools.pairwise(way))


def status(
    state: GuestServiceState, restarts: int = 0, reason: str | None = None, after_s: int = 0
) -> GuestServiceStatus:
    return GuestServiceStatus(
        name="web", state=state, restarts=restarts, reason=reason, since=NOW + timedelta(0, after_s)
    )


def test_news() -> None:
    s = GuestServiceState
    waiting, starting, healthy = status(s.WAITING), status(s.STARTING), status(s.HEALTHY)
    assert news((), [waiting]) == []
    assert news([waiting], [starting]) == [("service_started", "web")]
    assert news([starting], [healthy]) == []
    assert news((), [healthy]) == [("service_started", "web")], "what lay between was not seen"
    sick = status(s.UNHEALTHY, reason="nobody listens on port 80")
    assert news([healthy], [sick]) == [("service_unhealthy", "web: nobody listens on port 80")]
    assert news([sick], [sick]) == []
    ended = status(s.BACKING_OFF, reason="it ended with code 1")
    assert news([healthy], [ended]) == []
    assert news([ended], [status(s.STARTING, 1)]) == [("service_restarted", "web: it ended with code 1")]
    assert news([healthy], [status(s.FAILED, reason="it ended with code 1")]) == [
        ("service_failed", "web: it ended with code 1")
    ]
