"""Images, events and the cloud through the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.errors import Failed
from tests.control.conftest import Api

pytestmark = pytest.mark.anyio


async def test_pull_list_users_delete(api: Api) -> None:
    image = await api.image()
    assert (image["state"], image["config"]["cmd"]) == ("ready", ["sh"])
    await api.sandbox(name="one")
    assert (await api.call("GET", "/v1/images/debian:12")).json["users"] == 1
    assert (await api.call("GET", "/v1/images?name=deb")).json["items"][0]["users"] == 1
    used = await api.call("DELETE", "/v1/images/debian:12")
    assert (used.status, used.json["error"]["code"]) == (409, "in_use")
    await api.call("DELETE", "/v1/sandboxes/one?wait_s=30")
    gone = await api.call("DELETE", "/v1/images/debian:12?wait_s=30")
    assert (gone.status, gone.json["state"]) == (200, "deleted")
    assert api.agent.world.images == set()


async def test_names_with_slashes(api: Api) -> None:
    body = {"name": "team/tools", "source": "docker://registry/team/tools"}
    assert (await api.call("POST", "/v1/images?wait_s=30", body)).status == 201
    assert (await api.call("GET", "/v1/images/team/tools:latest")).json["name"] == "team/tools:latest"
    exported = await api.call("GET", "/v1/images/team/tools/export")
    assert (exported.status, exported.text) == (200, "TAR team/tools:latest")


async def test_failed_pull_says_why_and_can_be_tried_again(api: Api) -> None:
    api.agent.refuse["image"] = Failed("the registry does not answer")
    body = {"name": "x", "source": "docker://registry/x"}
    failed = await api.call("POST", "/v1/images?wait_s=30", body)
    assert (failed.json["state"], failed.json["reason"]) == ("failed", "the registry does not answer")
    refused = await api.call("POST", "/v1/sandboxes", {"image": "x"})
    assert (refused.status, "does not answer" in refused.message) == (409, True)
    api.agent.refuse.clear()
    assert (await api.call("POST", "/v1/images?wait_s=30", body)).json["state"] == "ready"
    assert [image["state"] for image in (await api.call("GET", "/v1/images?name=x")).json["items"]] == ["ready"]
    assert (await api.call("POST", "/v1/sandboxes?wait_s=30", {"image": "x"})).json["state"] == "running"


async def test_upload(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"t" * 100_000

    made = await api.call("POST", "/v1/images/upload?name=mine:1&wait_s=30", data=chunks())
    assert (made.status, made.json["state"], made.json["source"]) == (201, "ready", "upload")
    assert len(api.agent.uploads[0]) == 2_000_000
    bad = await api.call("POST", "/v1/images/upload?name=BAD", data=b"x")
    assert (bad.status, bad.json["error"]["field"]) == (400, "name")
    api.agent.refuse["image"] = Failed("this is no image archive")
    failed = await api.call("POST", "/v1/images/upload?name=other", data=b"x")
    assert (failed.json["state"], failed.json["reason"]) == ("failed", "this is no image archive")


async def test_upload_whose_client_leaves_fails(api: Api) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"t" * 100_000
        await asyncio.sleep(30)

    call = asyncio.ensure_future(api.call("POST", "/v1/images/upload?name=mine:1", data=stalls()))

    async def the_image(state: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                items = (await api.call("GET", "/v1/images")).json["items"]
                if items and items[0]["state"] == state:
                    return items[0]
                await asyncio.sleep(0.02)

    await the_image("creating")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert "interrupted" in (await the_image("failed"))["reason"]


async def test_commit_and_prune(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one")
    made = await api.call("POST", "/v1/sandboxes/one/commit?wait_s=30", {"image": "snap"})
    assert (made.status, made.json["name"], made.json["state"]) == (201, "snap:latest", "ready")
    assert (await api.call("POST", "/v1/sandboxes/one/commit", {"image": "NO"})).json["error"]["field"] == "image"
    pruned = await api.call("POST", "/v1/images/prune")
    assert [image["name"] for image in pruned.json["items"]] == ["snap:latest"]


async def test_bad_images(api: Api) -> None:
    for body, field in [
        ({"name": "x"}, None),
        ({"name": "x", "source": "docker://a", "recipe": "debian:12"}, None),
        ({"name": "../x", "source": "docker://a"}, "name"),
        ({"name": "x", "source": "ftp://a"}, "source"),
        ({"name": "x", "recipe": "arch"}, "recipe"),
        ({"name": "x", "recipe": "debian:12", "include": ["a b"]}, "include"),
    ]:
        answer = await api.call("POST", "/v1/images", body)
        assert (answer.status, answer.json["error"].get("field")) == (400, field), answer.text
    arch = await api.call("POST", "/v1/images", {"name": "x", "recipe": "arch"})
    assert "'debian:12', 'debian:bookworm'" in arch.message


async def test_events_as_pages_and_as_they_happen(api: Api) -> None:
    await api.image()
    headers = {"Authorization": f"Bearer {api.key}"}
    async with api.session.get(f"{api.base}/v1/events?watch=true&noun=sandbox", headers=headers) as watch:
        box = await api.sandbox(name="one")
        async with asyncio.timeout(30):
            told = [json.loads(await watch.content.readline()) for _ in range(3)]
    assert [event["kind"] for event in told] == ["created", "placed", "running"]
    by_name = await api.call("GET", "/v1/events?target=one")
    assert [event["sequence"] for event in by_name.json["items"]] == [event["sequence"] for event in told]
    first = await api.call("GET", f"/v1/events?target={box['id']}&limit=2")
    rest = await api.call("GET", f"/v1/events?target={box['id']}&page_token={first.json['next_page_token']}")
    after = await api.call("GET", f"/v1/events?target={box['id']}&after={told[1]['sequence']}")
    assert rest.json["items"] == after.json["items"] == told[2:]


async def test_nodes_info_openapi(api: Api) -> None:
    await api.image()  # by then the node was seen
    (node,) = (await api.call("GET", "/v1/nodes")).json["items"]
    assert (node["state"], node["cpu"]) == ("ready", 4.0)
    info = (await api.call("GET", "/v1/info")).json
    assert info["capabilities"]["checkpoint_disk"] is True
    assert (await api.call("GET", "/openapi.json")).json["info"]["title"] == "Skerry"
