"""Volumes through the API: made, copied, resized, mounted, and refused to be deleted while anybody mounts them."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import NotFound
from tests.control.conftest import Answer, Api, serving
from tests.reconcile.fake_agent import FakeAgent

pytestmark = pytest.mark.anyio
VOLUMES = "/v1/volumes"
MIB = 1024**2


async def volume(api: Api, name: str = "data", **more: Any) -> Answer:
    return await api.call("POST", f"{VOLUMES}?wait_s=30", {"name": name, **more})


async def create(api: Api, *mounts: dict[str, Any], **more: Any) -> Answer:
    return await api.call("POST", "/v1/sandboxes?wait_s=30", {"image": "debian:12", "mounts": mounts, **more})


def failed(answer: Answer, status: int, code: str, field: str | None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


async def test_a_volume_is_made_found_by_label_and_deleted(api: Api) -> None:
    made = await volume(api, labels={"team": "a"})
    assert (made.status, made.json["state"], made.json["size_bytes"]) == (201, "ready", 10 * 1024 * MIB)
    await volume(api, "other", size="64MiB")
    listed = await api.call("GET", f"{VOLUMES}?label=team%3Da")
    assert [(each["name"], each["used_by"], each["used_bytes"]) for each in listed.json["items"]] == [("data", [], 0)]
    failed(await api.call("GET", f"{VOLUMES}?label=team"), 400, "invalid", "label")
    assert "already a volume data" in failed(await volume(api), 409, "already_exists", "name")
    failed(await volume(api, "small", size="1MiB"), 400, "invalid", "size")
    assert (await api.call("DELETE", f"{VOLUMES}/data?wait_s=30")).json["state"] == "deleted"
    failed(await api.call("GET", f"{VOLUMES}/data"), 404, "not_found", None)
    assert list(api.agent.world.volumes) == [(await api.call("GET", f"{VOLUMES}/other")).json["id"]]
    assert (await volume(api)).status == 201


async def test_a_copy_has_at_least_its_sources_size_and_a_snapshot_none_of_its_own(api: Api) -> None:
    source = (await volume(api, size="64MiB")).json
    copy = (await volume(api, "copy", source="data")).json
    assert (copy["size_bytes"], copy["source"]) == (64 * MIB, source["id"])
    failed(await volume(api, "less", source="data", size="32MiB"), 400, "invalid", "size")
    failed(await volume(api, "none", source="nothing"), 404, "not_found", "source")
    failed(await volume(api, "empty", readonly=True), 400, "invalid", "readonly")
    assert (await volume(api, "monday", source="data", readonly=True)).json["readonly"] is True
    failed(await api.call("PATCH", f"{VOLUMES}/monday", {"size": "1GiB"}), 400, "invalid", "size")
    api.agent.slow_s["create_volume"] = 1.0
    await api.call("POST", VOLUMES, {"name": "late", "source": "copy"})
    assert "copied to late" in failed(await api.call("DELETE", f"{VOLUMES}/copy"), 409, "in_use", None)


async def test_a_volume_is_resized_but_not_below_what_it_holds(api: Api) -> None:
    made = (await volume(api, size="64MiB")).json
    kept = api.agent.world.volumes[made["id"]]
    grown = await api.call("PATCH", f"{VOLUMES}/data?wait_s=30", {"size": "128MiB", "labels": {"a": "b"}})
    assert (grown.json["state"], grown.json["size_bytes"], grown.json["labels"]) == ("ready", 128 * MIB, {"a": "b"})
    assert kept["size_bytes"] == 128 * MIB
    kept["used_bytes"] = 40 * MIB
    said = failed(await api.call("PATCH", f"{VOLUMES}/data", {"size": "32MiB"}), 400, "invalid", "size")
    assert said == "size: volume data holds 40.0MiB already"
    # It has come to hold more since its machine was asked: the size stays as it was, and is told why.
    api.agent.refuse["volumes"] = NotFound("this agent is of an older Skerry")
    kept_size = await api.call("PATCH", f"{VOLUMES}/data?wait_s=30", {"size": "32MiB"})
    assert (kept_size.json["state"], kept_size.json["size_bytes"]) == ("ready", 128 * MIB)
    assert "holds more already" in kept_size.json["reason"]
    [operation, *_] = (await api.call("GET", f"/v1/operations?target={made['id']}&state=failed")).json["items"]
    assert operation["kind"] == "volume.resize"


async def test_a_mounted_volume_is_not_deleted_and_says_who_mounts_it(api: Api) -> None:
    await api.image()
    made = (await volume(api)).json
    mount = {"volume": "data", "target": "/srv"}
    box = (await create(api, mount, name="one")).json
    assert box["volumes"] == {"data": made["id"]}
    assert api.agent.world.boxes[box["id"]].order.volumes == {"data": made["id"]}
    forked = await api.call("POST", "/v1/sandboxes/one/fork?wait_s=30")
    assert forked.json["items"][0]["volumes"] == {"data": made["id"]}
    said = failed(await api.call("DELETE", f"{VOLUMES}/data"), 409, "in_use", None)
    assert said == "volume data is used by one, one-1; delete these sandboxes first"
    assert (await api.call("GET", f"{VOLUMES}/data")).json["used_by"] == ["one", "one-1"]
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30")
    await api.call("DELETE", "/v1/sandboxes/one-1?wait_s=30")
    failed(await api.call("DELETE", f"{VOLUMES}/data"), 409, "in_use", None)
    await api.call("DELETE", "/v1/sandboxes/one?wait_s=30")
    assert (await api.call("DELETE", f"{VOLUMES}/data?wait_s=30")).json["state"] == "deleted"


async def test_whoever_mounts_another_lets_go_of_the_first_and_its_checkpoints_do_not_take_a_namesake(api: Api) -> None:
    await api.image()
    old, other = (await volume(api)).json, (await volume(api, "other")).json
    await create(api, {"volume": "data", "target": "/srv"}, name="one")
    await api.call("POST", "/v1/sandboxes/one/checkpoints?wait_s=30")
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30")
    changed = await api.call("PATCH", "/v1/sandboxes/one", {"mounts": [{"volume": "other", "target": "/srv"}]})
    assert changed.json["volumes"] == {"other": other["id"]}
    failed(await api.call("DELETE", f"{VOLUMES}/other"), 409, "in_use", None)
    forked = await api.call("POST", "/v1/sandboxes/one/fork?wait_s=30", {"checkpoint": "v1"})
    assert forked.json["items"][0]["volumes"] == {"data": old["id"]}
    await api.call("DELETE", "/v1/sandboxes/one-1?wait_s=30")
    assert (await api.call("DELETE", f"{VOLUMES}/data?wait_s=30")).status == 200
    again = ("POST", "/v1/sandboxes/one/fork", {"checkpoint": "v1"})
    failed(await api.call(*again), 404, "not_found", "mounts[0].volume")
    await volume(api)
    assert "this is another" in failed(await api.call(*again), 409, "conflict", "mounts[0].volume")


async def test_what_cannot_be_mounted(api: Api) -> None:
    await api.image()
    mount = {"volume": "data", "target": "/srv"}
    said = failed(await create(api, mount), 404, "not_found", "mounts[0].volume")
    assert "skerry volume create data" in said
    failed(await create(api, {**mount, "source": "/srv"}), 400, "invalid", "mounts[0]")
    failed(await create(api, {"target": "/srv"}), 400, "invalid", "mounts[0]")
    failed(await create(api, {**mount, "owner": True}), 400, "invalid", "mounts[0]")
    failed(await create(api, {**mount, "volume": "../etc"}), 400, "invalid", "mounts[0].volume")
    await volume(api)
    await volume(api, "monday", source="data", readonly=True)
    failed(await create(api, {**mount, "volume": "monday"}), 400, "invalid", "mounts[0].readonly")
    assert (await create(api, {**mount, "volume": "monday", "readonly": True})).status == 201
    api.agent.slow_s["delete_volume"] = 1.0
    await api.call("DELETE", f"{VOLUMES}/data")
    assert "being deleted" in failed(await create(api, mount), 409, "conflict", "mounts[0].volume")


async def test_there_is_a_most_of_volumes(agent: FakeAgent) -> None:
    async with serving(agent.path.parent.parent, agent, volumes_max=2) as api:
        await volume(api, "one")
        await volume(api, "two")
        assert "volumes_max" in failed(await volume(api, "three"), 429, "limit_reached", None)
