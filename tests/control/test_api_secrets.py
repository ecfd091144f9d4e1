"""Secrets through the API: a value goes in and never comes out, and what names one that is not there is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.sealing import Sealer
from tests.control.conftest import Answer, Api

pytestmark = pytest.mark.anyio
SECRETS = "/v1/secrets"
HUSH = "hunter2-hush"


async def put(api: Api, name: str = "token", **body: Any) -> Answer:
    answer = await api.call("PUT", f"{SECRETS}/{name}", body or {"value": HUSH})
    assert HUSH not in answer.text
    return answer


def failed(answer: Answer, status: int, code: str, field: str | None = None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


async def test_a_value_goes_in_and_never_comes_out(api: Api) -> None:
    made = (await put(api, labels={"for": "test"}, value=HUSH)).json
    assert (made["version"], made["size_bytes"], made["text"], made["labels"]) == (1, len(HUSH), True, {"for": "test"})
    again = (await put(api, base64="/w==")).json
    assert (again["id"], again["version"], again["text"], again["size_bytes"]) == (made["id"], 2, False, 1)
    assert again["labels"] == made["labels"]
    assert (await api.call("GET", SECRETS)).json["items"] == [again]
    assert (await api.call("GET", f"{SECRETS}/token")).json == {**again, "used_by": []}
    told = (await api.call("GET", "/v1/events?noun=secret")).json["items"]
    assert [(each["kind"], each["message"]) for each in told] == [("created", "version 1"), ("updated", "version 2")]
    assert (await api.call("DELETE", f"{SECRETS}/token")).status == 200
    failed(await api.call("GET", f"{SECRETS}/token"), 404, "not_found")
    assert (await put(api)).json["version"] == 1


async def test_bad_values_are_refused_without_an_echo(api: Api) -> None:
    assert failed(await put(api, value=[HUSH]), 400, "invalid", "value") == "value: expected text"
    assert failed(await put(api, base64=HUSH), 400, "invalid", "base64") == "base64: expected base64"
    failed(await put(api, value=HUSH, base64="eA=="), 400, "invalid")
    failed(await put(api, value=""), 400, "invalid", "value")
    assert "at most 64 KiB" in failed(await put(api, value="x" * 65_537), 400, "invalid", "value")
    failed(await put(api, "Not_A_Name", value=HUSH), 400, "invalid", "name")
    broken = await api.call("PUT", f"{SECRETS}/token", data=f'{{"value": "{HUSH}'.encode())
    assert HUSH not in broken.text
    assert broken.status == 400
    assert (await api.call("GET", SECRETS)).json["items"] == []


async def test_a_key_that_is_gone_is_not_made_anew_in_silence(api: Api) -> None:
    await put(api)
    api.settings.secrets_key_path.unlink()
    assert "secrets.key" in failed(await put(api, "other", value="x"), 500, "failed")
    await api.call("DELETE", f"{SECRETS}/token?force=true")
    assert (await put(api)).status == 200


async def test_two_who_set_one_at_once_make_two_versions(api: Api) -> None:
    answers = await asyncio.gather(*(put(api, value=str(number)) for number in range(4)))
    assert sorted(answer.json["version"] for answer in answers) == [1, 2, 3, 4]


async def test_an_order_has_the_newest_value_and_has_it_sealed(api: Api) -> None:
    await api.image()
    await put(api)
    box = await api.sandbox(name="one", secrets=[{"name": "token", "env": "TOKEN"}])
    assert (await api.call("GET", f"{SECRETS}/token")).json["used_by"] == ["one"]
    seals = Sealer(api.settings.secrets_key_path)
    order = api.agent.world.boxes[box["id"]].order
    assert HUSH not in order.model_dump_json()
    assert [seals.open(each.sealed, each.bound_to).decode() for each in order.secrets] == [HUSH]
    await put(api, value="second")
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30")
    await api.call("POST", "/v1/sandboxes/one/start?wait_s=30")
    order = api.agent.world.boxes[box["id"]].order
    assert [(each.version, seals.open(each.sealed, each.bound_to)) for each in order.secrets] == [(2, b"second")]


async def test_what_names_a_secret_that_is_not_there_is_refused_at_once(api: Api) -> None:
    await api.image()
    await put(api)
    await put(api, "blob", base64="/w==")

    async def create(*uses: dict[str, Any]) -> Answer:
        return await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "secrets": uses})

    gone = await create({"name": "token"}, {"name": "tokn"})
    assert failed(gone, 404, "not_found", "secrets[1].name").endswith("make it with: skerry secret set tokn")
    failed(await create({"name": "blob", "env": "BLOB"}), 400, "invalid", "secrets[0].env")
    assert (await api.call("GET", "/v1/sandboxes")).json["items"] == []

    await api.sandbox(name="one", secrets=[{"name": "token"}], env={"A": "1"})
    changed = {"secrets": [{"name": "tokn", "env": "T"}]}
    failed(await api.call("PATCH", "/v1/sandboxes/one", changed), 404, "not_found", "secrets[0].name")
    changed = {"secrets": [{"name": "token", "env": "A"}]}
    failed(await api.call("PATCH", "/v1/sandboxes/one", changed), 400, "invalid")
    changed = {"secrets": [{"name": "token", "env": "T"}]}
    failed(await api.call("PATCH", "/v1/sandboxes/one", changed), 409, "restart_needed", "secrets")
    assert "used by one" in failed(await api.call("DELETE", f"{SECRETS}/token"), 409, "in_use")
    assert (await api.call("DELETE", f"{SECRETS}/token?force=true")).status == 200
    failed(await api.call("POST", "/v1/sandboxes/one/fork"), 404, "not_found", "secrets[0].name")
    await api.call("POST", "/v1/sandboxes/one/stop?wait_s=30")
    failed(await api.call("POST", "/v1/sandboxes/one/start"), 404, "not_found", "secrets[0].name")
    assert (await api.call("GET", "/v1/sandboxes/one")).json["state"] == "stopped"
