"""Queues through the API: the one that is always there, others with rules and quotas, and what is in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.control.queue_use import with_use
from skerry.model.node import Node, NodeState
from skerry.model.queue import Queue, QueueSpec
from skerry.model.resources import Accelerator, selects
from skerry.store.sandboxes import Holding
from tests.control.conftest import Answer, Api

pytestmark = pytest.mark.anyio
QUEUES = "/v1/queues"
ALICE = {"project": "default", "user": "alice", "guaranteed": {"cpu": 1}, "limit": {"cpu": 4}}


def failed(answer: Answer, status: int, code: str, field: str | None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


async def test_the_default_queue_is_there_may_change_and_stays(api: Api) -> None:
    await api.image()
    await api.sandbox()  # so that its node is known
    [queue] = (await api.call("GET", QUEUES)).json["items"]
    assert (queue["name"], queue["nodes"], queue["nodes_ready"], queue["running"]) == ("default", 1, 1, 1)
    changed = await api.call("PATCH", f"{QUEUES}/default", {"policy": "fifo", "preemption": {"grace_s": "5s"}})
    assert (changed.status, changed.json["version"], changed.json["spec"]["policy"]) == (200, 2, "fifo")
    assert changed.json["spec"]["preemption"] == {**queue["spec"]["preemption"], "grace_s": 5.0}
    assert (await api.call("PATCH", f"{QUEUES}/{queue['id']}", {"policy": "fifo"})).json["version"] == 2
    failed(await api.call("DELETE", f"{QUEUES}/default"), 409, "protected", None)
    events = (await api.call("GET", "/v1/events?noun=queue")).json["items"]
    assert [(each["kind"], each["message"]) for each in events] == [("updated", "policy, preemption")]


async def test_a_queue_is_made_shown_with_what_is_in_it_and_deleted_when_empty(api: Api) -> None:
    await api.image()
    made = await api.call(
        "POST", QUEUES, {"name": "lab", "nodes": {"rack": "a"}, "quotas": [ALICE], "labels": {"x": "y"}}
    )
    assert (made.status, made.json["spec"]["nodes"]) == (201, {"rack": ["a"]})
    failed(await api.call("POST", QUEUES, {"name": "lab"}), 409, "already_exists", "name")
    assert [each["name"] for each in (await api.call("GET", f"{QUEUES}?label=x%3Dy")).json["items"]] == ["lab"]
    await api.call("PATCH", f"{QUEUES}/lab", {"nodes": {}})
    box = await api.sandbox(name="one", queue="lab", cpu=2)
    assert box["owner"] == "admin"
    seen = (await api.call("GET", f"{QUEUES}/lab")).json
    assert (seen["pending"], seen["running"], seen["used"]["cpu"], seen["taken"]["cpu"]) == (0, 1, 2.0, 2.0)
    whose = [(each["user"], each["used"]["cpu"], each["borrowed"]["cpu"]) for each in seen["shares"]]
    assert whose == [(None, 2.0, 2.0), ("admin", 2.0, 2.0), ("alice", 0.0, 0.0)]
    default = (await api.call("GET", f"{QUEUES}/default")).json
    assert (default["running"], default["used"]["cpu"], default["taken"]["cpu"]) == (0, 0.0, 2.0)
    said = failed(await api.call("DELETE", f"{QUEUES}/lab"), 409, "in_use", None)
    assert said == "queue lab has work in it: one; delete it, or give it another queue (skerry update --queue)"
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30", {"grace_s": 0})
    assert (await api.call("GET", f"{QUEUES}/lab")).json["running"] == 0
    failed(await api.call("DELETE", f"{QUEUES}/lab"), 409, "in_use", None)
    assert (await api.call("PATCH", "/v1/sandboxes/one", {"queue": "default"})).json["spec"]["queue"] == "default"
    assert (await api.call("DELETE", f"{QUEUES}/lab")).json["name"] == "lab"
    failed(await api.call("GET", f"{QUEUES}/lab"), 404, "not_found", None)


async def test_work_needs_a_queue_that_is_there_and_has_room_for_it_to_wait(api: Api) -> None:
    await api.image()
    quota = {"project": "default", "user": "admin", "pending_max": 1}
    await api.call("POST", QUEUES, {"name": "lab", "quotas": [quota]})
    said = failed(
        await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "queue": "lap"}), 404, "not_found", "queue"
    )
    assert said == "queue: there is no queue lap; did you mean 'lab'?"
    box = await api.sandbox(name="one")
    assert "skerry queue create other" in failed(
        await api.call("PATCH", "/v1/sandboxes/one", {"queue": "other"}), 404, "not_found", "queue"
    )
    await api.agent.stop()  # so that what is made now waits
    waiting = [await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "queue": "lab"}) for _ in range(3)]
    assert "may wait in it" in failed(waiting[-1], 429, "limit_reached", None)
    failed(await api.call("POST", f"/v1/sandboxes/{box['name']}/fork", {"count": 101}), 400, "invalid", "count")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "name"),
        ({"name": "Lab"}, "name"),
        ({"name": "lab", "policy": "best"}, "policy"),
        ({"name": "lab", "strategy": None}, "strategy"),
        ({"name": "lab", "polcy": "fifo"}, "polcy"),
        ({"name": "lab", "small_share": 1}, "small_share"),
        ({"name": "lab", "aging_s": "soon"}, "aging_s"),
        ({"name": "lab", "nodes": {"a b": "c"}}, "nodes.a b"),
        ({"name": "lab", "quotas": [{"user": "alice"}]}, "quotas[0].project"),
        ({"name": "lab", "quotas": [{"project": "p", "limit": {"cpu": -1}}]}, "quotas[0].limit.cpu"),
        ({"name": "lab", "quotas": [{"project": "p", "weight": 0}]}, "quotas[0].weight"),
        ({"name": "lab", "cpu_overcommit": {"free": 0.5}}, "cpu_overcommit.free"),
        ({"name": "lab", "preemption": {"grace_s": "2h"}}, "preemption.grace_s"),
    ],
)
async def test_a_queue_that_cannot_be(api: Api, spec: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", QUEUES, spec)
    failed(answer, 400, "invalid", field)
    assert len(answer.message) < 300
    if "name" in spec and field != "name":
        change = {key: value for key, value in spec.items() if key != "name"}
        if change != {"strategy": None}:  # which is the same as not given
            failed(await api.call("PATCH", f"{QUEUES}/default", change), 400, "invalid", field)
    assert len((await api.call("GET", QUEUES)).json["items"]) == 1


async def test_quotas_that_contradict_each_other(api: Api) -> None:
    twice = await api.call("POST", QUEUES, {"name": "lab", "quotas": [ALICE, ALICE]})
    assert "quotas[1]: user alice of project default has a quota already" in failed(twice, 400, "invalid", None)
    more = {"project": "p", "guaranteed": {"memory": "2GiB"}, "limit": {"memory": "1GiB"}}
    said = failed(await api.call("PATCH", f"{QUEUES}/default", {"quotas": [more]}), 400, "invalid", None)
    assert "quotas[0].guaranteed.memory: 2.0GiB is more than its limit, 1.0GiB" in said


def test_use_is_summed_up_from_what_has_a_place() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    plain = {"state": NodeState.READY, "cpu": 8, "memory_bytes": 100, "disk_bytes": 1, "seen_at": now}
    nodes = [
        Node(
            id="n1",
            name="n1",
            agent_socket="a",
            labels={"gpu": "yes"},
            accelerators=[Accelerator(kind="t4", count=1), Accelerator(kind="h100", count=2)],
            extras={"license": 3},
            **plain,
        ),
        Node(id="n2", name="n2", agent_socket="b", cordoned=True, **plain),
    ]
    spec = QueueSpec.model_validate(
        {"name": "lab", "nodes": {"gpu": []}, "quotas": [{"project": "p", "guaranteed": {"gpu_kinds": {"h100": 1}}}]}
    )
    queue = Queue(id="qu-1", name="lab", spec=spec, created_at=now, updated_at=now)
    holdings = [
        Holding("lab", "p", "alice", "n1", False, 2, 3.0, 60),
        Holding("lab", "p", "alice", "n1", False, 0, 0.0, 0, 1.5, ((1, 1000), (2, 500)), {"license": 2}),
        Holding("lab", "p", "bob", None, True, 4, 4.0, 40),
        Holding("default", "p", "bob", "n1", False, 1, 1.0, 10),
    ]
    [seen] = with_use([queue], nodes, holdings)
    assert (seen.nodes, seen.nodes_ready, seen.pending, seen.running) == (1, 1, 4, 2)
    assert seen.total.gpu_kinds == {"t4": 1, "h100": 2}
    assert (seen.used.cpu, seen.used.gpu_kinds, seen.used.extras) == (3.0, {"h100": 1.5}, {"license": 2})
    assert seen.taken.cpu == 4.0
    project, alice, bob = seen.shares
    assert (project.borrowed.gpu_kinds, project.borrowed.cpu) == ({"h100": 0.5}, 0.0)
    assert (alice.user, alice.borrowed.gpu_kinds, bob.user, bob.pending) == ("alice", {"h100": 1.5}, "bob", 4)


@pytest.mark.parametrize(
    ("selector", "labels", "meant"),
    [
        ({}, {}, True),
        ({"rack": []}, {}, False),
        ({"rack": []}, {"rack": "z"}, True),
        ({"rack": ["a", "b"]}, {"rack": "b"}, True),
        ({"rack": ["a", "b"]}, {"rack": "c"}, False),
        ({"rack": ["!a"]}, {"rack": "a"}, False),
        ({"rack": ["!a"]}, {}, True),
        ({"rack": ["!"]}, {"rack": "a"}, False),
        ({"rack": ["!"]}, {}, True),
        ({"rack": ["a"], "disk": ["ssd"]}, {"rack": "a"}, False),
    ],
)
def test_which_nodes_a_selector_means(selector: dict[str, list[str]], labels: dict[str, str], meant: bool) -> None:
    assert selects(selector, labels) is meant
