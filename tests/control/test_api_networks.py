"""Private networks through the API: ranges and addresses have one owner, and whoever comes second is told its name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.control.conftest import Answer, Api

pytestmark = pytest.mark.anyio
NETWORKS = "/v1/networks"
ONE = "/v1/sandboxes/one"


async def network(api: Api, name: str = "back", subnet: str = "10.77.0.0/29", **more: Any) -> Answer:
    return await api.call("POST", NETWORKS, {"name": name, "subnet": subnet, **more})


async def create(api: Api, *networks: dict[str, Any], **more: Any) -> Answer:
    return await api.call("POST", "/v1/sandboxes?wait_s=30", {"image": "debian:12", "networks": networks, **more})


def failed(answer: Answer, status: int, code: str, field: str | None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


def addresses(box: Any) -> dict[str, str]:
    assert {each["name"]: each["address"] for each in box["memberships"]} == {
        each["name"]: each["address"] for each in box["spec"]["networks"]
    }
    return {each["name"]: each["address"] for each in box["memberships"]}


async def test_a_network_is_made_listed_and_deleted(api: Api) -> None:
    made = await network(api, internal=True)
    assert (made.status, made.json["subnet"], made.json["internal"]) == (201, "10.77.0.0/29", True)
    assert (await api.call("GET", NETWORKS)).json["items"] == [made.json]
    assert (await api.call("GET", f"{NETWORKS}/back")).json == {**made.json, "members": []}
    failed(await network(api), 409, "already_exists", "name")
    assert (await api.call("DELETE", f"{NETWORKS}/back")).status == 200
    failed(await api.call("GET", f"{NETWORKS}/back"), 404, "not_found", None)
    assert (await network(api)).status == 201


async def test_networks_are_found_by_their_labels(api: Api) -> None:
    for number, labels in enumerate(
        ({"app": "shop", "tier": "1"}, {}, {"app": "shop"}, {"app": "blog"}, {"app": "shop"})
    ):
        assert (await network(api, f"n{number}", f"10.79.{number}.0/24", labels=labels)).json["labels"] == labels

    async def named(query: str) -> tuple[list[str], str | None]:
        found = (await api.call("GET", f"{NETWORKS}?{query}")).json
        return [each["name"] for each in found["items"]], found["next_page_token"]

    assert await named("label=app=shop&label=tier=1") == (["n0"], None)
    first, token = await named("label=app=shop&limit=2")
    assert (first, await named(f"label=app=shop&limit=2&page_token={token}")) == (["n0", "n2"], (["n4"], None))
    assert len((await named("limit=5"))[0]) == 5
    failed(await api.call("GET", f"{NETWORKS}?label=app"), 400, "invalid", "label")


async def test_no_two_ranges_overlap(api: Api) -> None:
    await network(api)
    said = failed(await network(api, "other", "10.77.0.0/16"), 409, "in_use", "subnet")
    assert said == "subnet: 10.77.0.0/16 overlaps 10.77.0.0/29 of network back"
    own = api.settings.network_subnet
    assert f"overlaps {own}" in failed(await network(api, "other", "10.201.3.0/24"), 400, "invalid", "subnet")
    failed(await network(api, "other", "8.8.8.0/24"), 400, "invalid", "subnet")
    answers = await asyncio.gather(*(network(api, f"n{number}", "10.78.0.0/24") for number in range(6)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 5


async def test_an_address_has_one_owner_and_whoever_comes_second_is_told_its_name(api: Api) -> None:
    await api.image()
    await network(api)
    box = await api.sandbox(name="one", networks=[{"name": "back", "address": "10.77.0.5"}])
    assert addresses(box) == {"back": "10.77.0.5"}
    wanted = {"name": "back", "address": "10.77.0.5"}
    said = failed(await create(api, wanted), 409, "in_use", "networks[0].address")
    assert said == "networks[0].address: 10.77.0.5 is sandbox one's; choose another"
    await api.call("POST", f"{ONE}/stop?wait_s=30")
    failed(await create(api, wanted), 409, "in_use", "networks[0].address")
    await api.call("DELETE", f"{ONE}?wait_s=30")
    assert (await create(api, wanted)).status == 201


async def test_what_cannot_be_joined(api: Api) -> None:
    await api.image()
    await network(api)
    said = failed(await create(api, {"name": "none"}), 404, "not_found", "networks[0].name")
    assert "skerry network create none" in said
    for address in ("10.77.0.0", "10.77.0.7", "10.78.0.1"):
        failed(await create(api, {"name": "back", "address": address}), 400, "invalid", "networks[0].address")
    failed(await create(api, {"name": "back", "address": "ten"}), 400, "invalid", "networks[0].address")
    assert "back is joined already" in (await create(api, {"name": "back"}, {"name": "back"})).message


async def test_many_at_once_get_different_addresses_until_none_is_left(api: Api) -> None:
    await api.image()
    await network(api)
    answers = await asyncio.gather(*(create(api, {"name": "back"}) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] * 6 + [429] * 2
    found = {addresses(answer.json)["back"] for answer in answers if answer.status == 201}
    assert found == {f"10.77.0.{last}" for last in range(1, 7)}


async def test_a_network_with_members_is_not_deleted_and_says_who_they_are(api: Api) -> None:
    await api.image()
    await network(api)
    box = await api.sandbox(name="one", networks=[{"name": "back"}])
    said = failed(await api.call("DELETE", f"{NETWORKS}/back"), 409, "in_use", None)
    assert said == "network back has members (one); have them leave, or delete them, first"
    [member] = (await api.call("GET", f"{NETWORKS}/back")).json["members"]
    assert member == {"sandbox": box["id"], "name": "one", "state": "running", "address": "10.77.0.6"}
    left = await api.call("PATCH", f"{ONE}?wait_s=30", {"networks": []})
    assert (left.status, left.json["applied"], left.json["memberships"]) == (200, True, [])
    assert (await api.call("DELETE", f"{NETWORKS}/back")).status == 200


async def test_joining_tells_the_machine_and_keeps_the_addresses_that_are_not_named(api: Api) -> None:
    await api.image()
    await network(api)
    await network(api, "front", "10.78.0.0/29", internal=True)
    await api.sandbox(name="one", networks=[{"name": "back", "address": "10.77.0.2"}])
    changed = await api.call("PATCH", f"{ONE}?wait_s=30", {"networks": [{"name": "front"}, {"name": "back"}]})
    assert (changed.json["applied"], addresses(changed.json)) == (True, {"front": "10.78.0.6", "back": "10.77.0.2"})
    assert changed.json["memberships"][0]["internal"] is True
    renamed = await api.call("PATCH", ONE, {"name": "one", "labels": {"a": "b"}})
    assert addresses(renamed.json) == {"front": "10.78.0.6", "back": "10.77.0.2"}


async def test_one_without_a_network_gets_its_first_cable_only_when_it_starts(api: Api) -> None:
    await api.image()
    await network(api)
    await network(api, "front", "10.78.0.0/29")
    await api.sandbox(name="one", network={"enabled": False})
    back, front = {"name": "back"}, {"name": "front"}
    assert "stop it" in failed(await api.call("PATCH", ONE, {"networks": [back]}), 409, "conflict", "networks")
    await api.call("POST", f"{ONE}/stop?wait_s=30")
    assert (await api.call("PATCH", ONE, {"networks": [back]})).status == 200
    await api.call("POST", f"{ONE}/start?wait_s=30")
    assert (await api.call("PATCH", ONE, {"networks": [back, front]})).status == 200
    failed(await api.call("PATCH", ONE, {"networks": []}), 409, "conflict", "networks")


async def test_forks_join_their_parents_networks_by_addresses_of_their_own(api: Api) -> None:
    await api.image()
    await network(api)
    await api.sandbox(name="one", networks=[{"name": "back", "address": "10.77.0.6"}])
    forked = await api.call("POST", f"{ONE}/fork?wait_s=30", {"count": 3})
    found = [addresses(each)["back"] for each in forked.json["items"]]
    assert found == ["10.77.0.5", "10.77.0.4", "10.77.0.3"]
    full = await api.call("POST", f"{ONE}/fork?wait_s=30", {"count": 3})
    assert (full.status, full.json["error"]["code"]) == (429, "limit_reached")
