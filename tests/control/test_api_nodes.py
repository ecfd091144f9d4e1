"""Nodes through the API: what their agents say, what an operator sets, and that neither overwrites the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.control.conftest import Answer, Api

pytestmark = pytest.mark.anyio
NODES = "/v1/nodes"
SAID = {
    "arch": "x86_64",
    "labels": {"rack": "a"},
    "taints": ["gpu=only"],
    "accelerators": [{"kind": "h100", "count": 2, "memory": 80 * 1024**3}],
    "extras": {"license": 2},
}


def failed(answer: Answer, status: int, code: str, field: str | None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


async def known(api: Api) -> Any:
    """The one node, once its agent has told of it."""
    await api.image()
    await api.sandbox(name="one", cpu=2)
    [node] = (await api.call("GET", NODES)).json["items"]
    return node


HOLDS = {"tolerations": ["gpu"]}
NEVER = [
    (
        {},
        "placement.tolerations",
        "every machine that it may run on has taints that it does not tolerate; add gpu=only",
    ),
    (
        {"placement": HOLDS | {"nodes": {"rack": "b"}}},
        "placement.nodes",
        "no machine has labels rack as they are wanted",
    ),
    (
        {"placement": HOLDS | {"arch": "aarch64"}},
        "placement.arch",
        "aarch64 is not allowed; there are machines of x86_64",
    ),
    ({"placement": HOLDS, "cpu": 5}, "cpu", "5 is not allowed; the largest machine has 4"),
    (
        {"placement": HOLDS, "gpu": 1, "gpu_kind": "t4"},
        "gpu",
        "1 of t4 is not allowed; no machine that could have the rest has such an accelerator",
    ),
    (
        {"placement": HOLDS, "gpu": 3},
        "gpu",
        "3 with what else is asked is not allowed; the largest machine, {name}, has 2",
    ),
    (
        {"placement": HOLDS, "extras": {"license": 3}},
        "extras",
        "no machine has all of these; the most that one has is 2 license",
    ),
]


async def test_a_node_shows_what_its_agent_says_and_what_it_could_never_have_is_refused(api: Api) -> None:
    api.agent.capacity |= SAID
    await api.agent.stop()
    await api.agent.start()
    await api.image()
    async with asyncio.timeout(30):
        while not (node := (await api.call("GET", NODES)).json["items"][0])["arch"]:  # noqa: ASYNC110 - its agent tells it
            await asyncio.sleep(0.02)
    assert (node["arch"], node["labels"], node["taints"], node["extras"]) == (
        "x86_64",
        {"rack": "a"},
        ["gpu=only"],
        {"license": 2},
    )
    assert [(each["kind"], each["count"]) for each in node["accelerators"]] == [("h100", 2)]
    for asked, field, say in NEVER:
        for path, more in (("/v1/sandboxes", {}), ("/v1/jobs", {"command": "true"})):
            answer = await api.call("POST", path, {"image": "debian:12"} | more | asked)
            assert failed(answer, 400, "invalid", field) == f"{field}: {say.format(name=node['name'])}"
    fitting = {"image": "debian:12", "name": "one", "cpu": 2, "gpu": 2, "placement": HOLDS}
    answer = await api.call("POST", "/v1/sandboxes?wait_s=30", fitting)
    assert answer.json["state"] == "running"
    seen = (await api.call("GET", NODES)).json["items"][0]
    assert (seen["running"], seen["sandboxes"], seen["used"]["cpu"]) == (1, 1, 2.0)
    said = failed(
        await api.call("PATCH", f"{NODES}/{node['id']}", {"labels": {"rack": None}}), 400, "invalid", "labels.rack"
    )
    assert "node_labels" in said
    # What an operator sets counts at once, and what is full or cordoned is refused to nobody.
    await api.call("PATCH", f"{NODES}/{node['id']}", {"taints": {"team": "x"}})
    refused = await api.call("POST", "/v1/sandboxes", fitting | {"name": "two"})
    assert failed(refused, 400, "invalid", "placement.tolerations").endswith("add team=x")
    await api.call("PATCH", f"{NODES}/{node['id']}", {"taints": {"team": None}})
    await api.call("POST", f"{NODES}/{node['id']}/cordon")
    assert (await api.call("POST", "/v1/sandboxes", fitting | {"name": "two"})).json["state"] == "pending"


async def test_labels_and_taints_change_one_by_one_and_stay_when_the_agent_restarts(api: Api) -> None:
    node = await known(api)
    path = f"{NODES}/{node['name']}"
    await api.call("PATCH", path, {"labels": {"rack": "b", "team": "x"}, "taints": {"team": "x"}})
    changed = await api.call("PATCH", path, {"labels": {"team": None}})
    assert (changed.status, changed.json["labels"], changed.json["taints"]) == (200, {"rack": "b"}, ["team=x"])
    await api.agent.stop()
    await api.agent.start()
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30", {"grace_s": 0})
    seen = (await api.call("GET", path)).json
    assert (seen["labels"], seen["taints"], seen["running"], seen["sandboxes"]) == ({"rack": "b"}, ["team=x"], 0, 1)
    assert [each["id"] for each in (await api.call("GET", f"{NODES}?label=rack%3Db")).json["items"]] == [node["id"]]
    assert (await api.call("GET", f"{NODES}?label=rack%3Da")).json["items"] == []
    events = (await api.call("GET", f"/v1/events?target={node['id']}&limit=50")).json["items"]
    assert "team-" in [each["message"] for each in events if each["kind"] == "updated"]


async def test_cordon_drain_and_back(api: Api) -> None:
    node = await known(api)
    path = f"{NODES}/{node['id']}"
    cordoned = (await api.call("POST", f"{path}/cordon")).json
    assert (cordoned["cordoned"], cordoned["draining"]) == (True, False)
    assert (await api.call("GET", "/v1/queues/default")).json["nodes_ready"] == 0
    back = (await api.call("POST", f"{path}/uncordon")).json
    assert (back["cordoned"], back["draining"]) == (False, False)
    drained = (await api.call("POST", f"{path}/drain")).json
    assert (drained["cordoned"], drained["draining"]) == (True, True)
    assert (await api.call("POST", f"{path}/drain")).json == drained
    await api.call("POST", f"{path}/uncordon")
    events = (await api.call("GET", f"/v1/events?target={node['id']}&limit=50")).json["items"]
    assert [each["kind"] for each in events][-4:] == ["cordoned", "uncordoned", "draining", "uncordoned"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"labels": {"a b": "c"}}, "labels.a b"),
        ({"labels": {"a": 5}}, "labels.a"),
        ({"labels": {"a": "x" * 300}}, "labels.a"),
        ({"taints": ["a=b"]}, "taints"),
        ({"label": {}}, "label"),
        ({"cordoned": True}, "cordoned"),
        ({"labels": {f"l{number}": "" for number in range(70)}}, "labels"),
    ],
)
async def test_bad_changes_of_a_node(api: Api, body: dict[str, Any], field: str) -> None:
    node = await known(api)
    failed(await api.call("PATCH", f"{NODES}/{node['id']}", body), 400, "invalid", field)
    assert (await api.call("GET", f"{NODES}/{node['id']}")).json["labels"] == {}
    failed(await api.call("POST", f"{NODES}/nowhere/drain"), 404, "not_found", None)
