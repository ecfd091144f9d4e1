"""Models through the API: fetched, made of others, mounted, and refused to be deleted while anybody mounts them."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.control.intents import models
from skerry.errors import NotFound
from skerry.model.weights import ModelState
from tests.control.conftest import Answer, Api

pytestmark = pytest.mark.anyio
MODELS = "/v1/models"
SOURCE = "hf://Qwen/Qwen2.5-0.5B@v1"


async def pull(api: Api, source: str = SOURCE, **more: Any) -> Answer:
    return await api.call("POST", f"{MODELS}?wait_s=30", {"source": source, **more})


def failed(answer: Answer, status: int, code: str, field: str | None = None) -> str:
    error = answer.json["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field), answer.text
    return answer.message


async def test_a_model_is_fetched_once_listed_and_deleted(api: Api) -> None:
    made = await pull(api)
    assert (made.status, made.json["state"], made.json["name"]) == (201, "ready", "qwen2.5-0.5b-v1")
    assert (made.json["files"], made.json["size_bytes"], made.json["revision"]) == (1, 1000, "abc")
    assert (await pull(api)).json["id"] == made.json["id"]
    assert api.agent.world.calls.count(f"model {SOURCE}") == 1
    assert "already a model" in failed(
        await pull(api, name="qwen2.5-0.5b-v1", convert="f16"), 409, "already_exists", "name"
    )
    listed = await api.call("GET", f"{MODELS}?name=qwen")
    assert [(each["name"], each["used_by"]) for each in listed.json["items"]] == [("qwen2.5-0.5b-v1", [])]
    files = await api.call("GET", f"{MODELS}/qwen2.5-0.5b-v1/files")
    assert [each["path"] for each in files.json["items"]] == ["model.gguf"]
    assert (await api.call("DELETE", f"{MODELS}/qwen2.5-0.5b-v1?wait_s=30")).json["state"] == "deleted"
    assert api.agent.world.models == {}
    failed(await api.call("GET", f"{MODELS}/qwen2.5-0.5b-v1"), 404, "not_found")


async def test_one_that_is_the_same_takes_labels_and_is_found_by_them(api: Api) -> None:
    made = (await pull(api)).json
    for labels in ({"team": "a"}, {"team": "b"}, {}):
        same = (await pull(api, labels=labels)).json
        assert (same["id"], same["labels"]) == (made["id"], labels or {"team": "b"})
    for label, count in (("team=b", 1), ("team=a", 0)):
        assert len((await api.call("GET", f"{MODELS}?label={label}")).json["items"]) == count


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("hf://only-one", {}),
        ("hf://a/../b", {}),
        ("s3://B", {}),
        ("ftp://host/x", {}),
        ("oci://Host/UPPER:tag", {}),
        ("model://x", {}),
        ("hf://a/b", {"parameters": {"bad name": 1}}),
        ("/srv/models", {"endpoint": "https://x"}),
        ("hf://a/b", {"endpoint": "ftp://x"}),
        ("hf://a/b\nc", {}),
    ],
)
async def test_what_is_no_source_is_refused_with_what_is(api: Api, source: str, more: dict[str, Any]) -> None:
    answer = await pull(api, source, **more)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid"), answer.text


async def test_what_a_source_needs_has_to_be_there(api: Api) -> None:
    failed(await pull(api, secret="none"), 404, "not_found", "secret")
    failed(await pull(api, "model://none", name="x"), 404, "not_found", "source")
    failed(await pull(api, "data:/weights"), 404, "not_found", "source")
    assert "is not shared" in failed(await pull(api, "/srv/models"), 400, "invalid", "source")
    failed(await pull(api, adapters=["none"]), 404, "not_found", "adapters[0]")


async def test_a_package_says_more_of_the_same_files(api: Api) -> None:
    await pull(api, name="base", parameters={"top_k": 1})
    more = {"template": "{{ .Prompt }}", "system": "Be brief.", "parameters": {"temperature": 0.5}}
    made = (await pull(api, "model://base", name="brief", **more)).json
    assert (made["state"], made["card"]["template"], made["card"]["system"]) == ("ready", "{{ .Prompt }}", "Be brief.")
    assert made["card"]["parameters"] == {"stop": ["</s>"], "top_k": 1, "temperature": 0.5}
    assert (made["card"]["format"], made["card"]["main"]) == ("gguf", "model.gguf")
    order = api.agent.world.models[made["id"]]
    assert order.base == (await api.call("GET", f"{MODELS}/base")).json["id"]
    api.agent.slow_s["model://brief"] = 0.3
    await api.call("POST", MODELS, {"source": "model://brief", "name": "later", "convert": "q8_0"})
    assert "made of brief" in failed(await api.call("DELETE", f"{MODELS}/brief"), 409, "in_use")


async def test_what_is_said_of_one_changes_and_nothing_is_fetched_for_it(api: Api) -> None:
    await pull(api, name="base", system="Be brief.")
    await pull(api, "model://base", name="cool", parameters={"temperature": 0.5})
    calls = len(api.agent.world.calls)
    said = {"system": "Sing.", "parameters": {"top_k": 1}}
    changed = (await api.call("PATCH", f"{MODELS}/cool", said)).json
    assert (changed["card"]["system"], changed["card"]["parameters"]) == ("Sing.", {"stop": ["</s>"], "top_k": 1})
    assert (changed["state"], changed["card"]["main"]) == ("ready", "model.gguf")
    again = (await api.call("PATCH", f"{MODELS}/cool", {"system": None})).json
    assert (again["said"]["system"], again["card"]["system"]) == (None, "Be brief."), "what was said of its base"
    assert again["said"]["parameters"] == {"top_k": 1}
    assert len(api.agent.world.calls) == calls
    failed(await api.call("PATCH", f"{MODELS}/cool", {"parameters": {"9": 1}}), 400, "invalid", "parameters.9")
    failed(await api.call("PATCH", f"{MODELS}/none", said), 404, "not_found")


async def test_a_failed_one_says_why_and_gives_its_name_back(api: Api) -> None:
    api.agent.refuse["image"] = NotFound("huggingface.co has no repository Qwen/Qwen2.5-0.5B")
    made = await pull(api)
    assert (made.json["state"], "has no repository" in made.json["reason"]) == ("failed", True)
    api.agent.refuse.clear()
    assert (await pull(api)).json["state"] == "ready"


async def test_secrets_go_sealed_to_the_machine(api: Api) -> None:
    for name in ("model-hf", "mine"):
        await api.call("PUT", f"/v1/secrets/{name}", {"value": "hf_secret"})
    first, second = (await pull(api)).json, (await pull(api, name="other", secret="mine")).json
    orders = [api.agent.world.models[each["id"]] for each in (first, second)]
    assert [order.secret.name if order.secret else None for order in orders] == ["model-hf", "mine"]
    assert "hf_secret" not in orders[0].model_dump_json()


async def test_a_mounted_model_stays(api: Api) -> None:
    await api.image()
    await pull(api, name="m")
    box = await api.sandbox(mounts=[{"model": "m"}])
    assert box["spec"]["mounts"][0] | {"target": "/models/m", "readonly": True} == box["spec"]["mounts"][0]
    order = api.agent.world.boxes[box["id"]].order
    assert order.models == {"m": (await api.call("GET", f"{MODELS}/m")).json["id"]}
    assert (await api.call("GET", f"{MODELS}/m")).json["used_by"] == [box["name"]]
    assert box["name"] in failed(await api.call("DELETE", f"{MODELS}/m"), 409, "in_use")
    missing = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "mounts": [{"model": "none"}]})
    failed(missing, 404, "not_found", "mounts[0].model")
    writing = {"image": "debian:12", "mounts": [{"model": "m", "readonly": False}]}
    failed(await api.call("POST", "/v1/sandboxes", writing), 400, "invalid", "mounts[0].readonly")
    await api.call("DELETE", f"/v1/sandboxes/{box['id']}?wait_s=30")
    assert (await api.call("DELETE", f"{MODELS}/m?wait_s=30")).json["state"] == "deleted"


async def test_who_needs_a_model_has_it_fetched(api: Api) -> None:
    store = api.control.store
    assert models.is_fetched(SOURCE)
    assert not models.is_fetched("/models/x")
    assert not models.is_fetched("data:/x")
    async with store.write() as tx:
        assert await models.ready(tx, SOURCE) is None
        made = await models.ensure(tx, SOURCE)
        assert made.state is ModelState.CREATING
        assert (await models.ensure(tx, SOURCE)).id == made.id
    await pull(api)  # waits for the same
    async with store.write() as tx:
        found = await models.ready(tx, SOURCE)
        assert found is not None
        assert (found.id, found.place) == (made.id, f"/models/{made.name}/model.gguf")
        assert models.mount_of(found).target == f"/models/{made.name}"
        assert (await models.ensure(tx, f"model://{made.name}")).id == made.id
    api.agent.refuse["image"] = NotFound("no such repository")
    async with store.write() as tx:
        lost = await models.ensure(tx, "hf://a/b")
    await pull(api, "hf://c/d")
    async with store.write() as tx:
        again = await models.ensure(tx, "hf://a/b")
        assert (again.id, again.state, again.reason) == (lost.id, ModelState.FAILED, "no such repository")
