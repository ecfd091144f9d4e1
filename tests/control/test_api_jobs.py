"""The jobs' routes on the wire: what is answered, and what is refused with which words before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.control.webhooks import Webhooks, is_public
from skerry.errors import Failed, Forbidden
from tests.control.conftest import Api

pytestmark = pytest.mark.anyio

GOOD = {"image": "debian:12", "command": "sleep 1", "memory": "16MiB"}

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"image": "none:1"}, "image", "there is no image none:1; fetch it with: skerry image pull docker://none:1"),
    ({"queue": "night"}, "queue", "queue: there is no queue night"),
    ({"array": "5-1"}, "array", "array: '5-1' is not allowed; 5-1: the last index is not before the first"),
    ({"array": 3, "sweep": {"a": [1]}}, "", "array and sweep: give one of them"),
    ({"sweep": {"rank": [1]}}, "", "sweep.rank: this name is taken"),
    ({"nodes_min": 3, "nodes": 2}, "nodes_min", "nodes_min: at most as many as nodes"),
    ({"nodes": 4000}, "nodes", "nodes: 4000 is not allowed; there may be 2000 on a machine"),
    ({"cpu": 200}, "cpu", "cpu: 200 is not allowed; the largest machine has 4"),
    ({"output": "results"}, "output", "output: there is no volume results"),
    ({"secrets": [{"name": "token", "env": "T"}]}, "secrets[0].name", "there is no secret token"),
    ({"notify": [{"webhook": "http://a/b", "secret": "s"}]}, "notify[0].secret", "there is no secret s"),
    ({"notify": [{}]}, "notify[0]", "give exactly one of webhook and slack"),
    ({"depends_on": [{"job": "first"}]}, "depends_on[0].job", "there is no job 'first'"),
    ({"networks": [{"name": "lab"}]}, "networks[0].name", "there is no network lab"),
    ({"command": []}, "command", "command"),
    ({"comand": "x"}, "comand", "did you mean command?"),
    ({"workdir": "{index}"}, "workdir", "expected an absolute path"),
]


async def test_bad_input_is_told_in_a_sentence(api: Api) -> None:
    await api.image()
    for wrong, field, say in BAD:
        answer = await api.call("POST", "/v1/jobs", {**GOOD, **wrong})
        assert answer.status in (400, 404), answer.text
        assert say in answer.message
        assert answer.json["error"].get("field", "") == field, answer.text
    assert (await api.call("GET", "/v1/jobs")).json["items"] == []


async def test_from_submission_to_deletion(api: Api) -> None:
    await api.image()
    made = await api.call("POST", "/v1/jobs", {**GOOD, "name": "count", "array": "0-2", "labels": {"a": "b"}})
    assert made.status == 201, made.text
    job = made.json
    assert (job["owner"], job["spec"]["array"], job["progress"]["total"]) == ("admin", "0-2", 3)
    again = await api.call("POST", "/v1/jobs", {**GOOD, "name": "count"})
    assert (again.status, again.json["error"]["field"]) == (409, "name")
    assert [each["id"] for each in (await api.call("GET", "/v1/jobs?label=a=b&queue=default")).json["items"]] == [
        job["id"]
    ]
    assert (await api.call("GET", "/v1/jobs?state=failed")).json["items"] == []
    tasks = (await api.call("GET", "/v1/jobs/count/tasks?limit=2")).json
    assert [task["index"] for task in tasks["items"]] == [0, 1]
    assert (await api.call("GET", "/v1/jobs/count/tasks/2")).json["index"] == 2
    missing = await api.call("GET", "/v1/jobs/count/tasks/9")
    assert (missing.status, missing.message) == (404, "job count has no task 9; it has 3")
    refused = await api.call("DELETE", "/v1/jobs/count")
    assert refused.status == 409
    assert "skerry job cancel count" in refused.message
    unknown = await api.call("POST", "/v1/jobs/count/cancel", {"indices": [7]})
    assert (unknown.status, unknown.json["error"]["field"]) == (404, "indices[0]")
    assert (await api.call("GET", "/v1/sandboxes")).json["items"] == []
    cancelled = await api.call("POST", "/v1/jobs/count/cancel", {"reason": "enough"})
    assert cancelled.json["state"] == "cancelling"
    ended = (await api.call("GET", "/v1/jobs/count?wait_s=30")).json
    assert (ended["state"], ended["reason"], ended["progress"]["cancelled"]) == ("cancelled", "enough", 3)
    assert (await api.call("POST", "/v1/jobs/count/cancel")).status == 409
    assert (await api.call("DELETE", "/v1/jobs/count")).status == 200
    assert (await api.call("GET", "/v1/jobs/count")).status == 404


def test_which_addresses_are_public() -> None:
    for address in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:127.0.0.1", "0.0.0.0"):
        assert not is_public(address), address
    assert not is_public("64:ff9b::7f00:1")
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")


async def test_notices_go_to_public_addresses_only() -> None:
    async with Webhooks(private=False) as webhooks:
        with pytest.raises(Forbidden, match="not a public address"):
            await webhooks.post("http://127.0.0.1:1/", b"{}", {})
        with pytest.raises(Failed, match="could not be reached"):
            await webhooks.post("http://localhost:1/", b"{}", {})
