"""What a gateway is told by control: everything, then each change; over TCP nothing; all again when it is behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skerry.control import route_feed
from tests.control.conftest import Api

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(api: Api) -> AsyncIterator[Any]:
    async with api.session.get(f"{api.base}/internal/routes") as answer:
        assert answer.status == 200

        async def following() -> Any:
            async with asyncio.timeout(30):
                return json.loads(await answer.content.readline())

        yield following


async def until(following: Any, wanted: dict[str, Any]) -> None:
    while True:
        news = await following()
        if wanted.items() <= (news.get("route") or news).items():
            return


async def test_everything_and_then_what_changes(api: Api) -> None:
    await api.image()
    one = await api.sandbox(name="one")
    async with listening(api) as following:
        [route] = (await following())["every"]
        wanted = {"id": one["id"], "name": "one", "project": "default", "state": "running", "public": False}
        assert route == wanted
        await api.call("PATCH", "/v1/sandboxes/one", {"public": True})
        assert (await following())["route"] == {**wanted, "public": True}
        await api.call("PATCH", "/v1/sandboxes/one", {"labels": {"of": "no matter"}})
        await api.call("PATCH", "/v1/sandboxes/one", {"name": "uno"})
        assert (await following())["route"] == {**wanted, "public": True, "name": "uno"}
        await api.sandbox(name="two", public=True)
        await until(following, {"name": "two", "state": "running", "public": True})
        await api.call("DELETE", f"/v1/sandboxes/{one['id']}")
        await until(following, {"gone": one["id"]})


async def test_one_that_is_behind_is_told_everything_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_feed, "NEWS_MAX", 2)
    await api.image()
    async with listening(api) as following:
        assert (await following())["every"] == []
        await asyncio.gather(*(api.sandbox(name=f"box-{number}") for number in range(8)))
        known: dict[str, str] = {}
        while set(known.values()) != {"running"} or len(known) < 8:
            news = await following()
            if "every" in news:
                known = {route["name"]: route["state"] for route in news["every"]}
            elif "route" in news:
                known[news["route"]["name"]] = news["route"]["state"]


async def test_only_our_own_programs_are_told(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    for path in ("/internal/routes", "/internal/key"):
        async with api.session.get(f"{api.base}{path}") as answer:
            assert answer.status == (200 if path.endswith("routes") else 401)
    async with api.session.get(f"{api.base}/internal/key", headers=headers) as answer:
        assert await answer.json() == {"project": "default"}
    import aiohttp

    async with aiohttp.ClientSession() as outside:
        for path in ("/internal/routes", "/internal/key"):
            async with outside.get(f"{api.tcp_base}{path}", headers=headers) as answer:
                assert answer.status == 404
            async with outside.get(f"{api.tcp_base}{path}") as answer:
                assert answer.status == 401


async def test_urls_and_links(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="web")
    place = api.settings.url_place
    told = await api.call("GET", "/v1/sandboxes/web/url?port=8080")
    assert told.json == {"url": f"http://web--8080.{place}/", "port": 8080, "public": False, "expires_at": None}
    assert (await api.call("GET", "/v1/sandboxes/web/url?port=0")).status == 400
    signed = await api.call("POST", "/v1/sandboxes/web/url", {"port": 8080, "expires_s": "1h"})
    assert signed.status == 201
    assert signed.json["url"].startswith(f"http://web--8080.{place}/?skerry_token=")
    assert (await api.call("POST", "/v1/sandboxes/web/url", {"port": 8080, "expires_s": "31d"})).status == 400
    assert (await api.call("POST", "/v1/sandboxes/nobody/url", {"port": 8080})).status == 404
    long = await api.sandbox(name="n" * 63)
    told = await api.call("GET", f"/v1/sandboxes/{long['id']}/url?port=80")
    assert told.json["url"] == f"http://{long['id']}--80.{place}/"
    assert box["spec"]["public"] is False
