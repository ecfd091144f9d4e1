"""Services through the API as it is served: added, listed with what their machine says, told of, removed, refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.model.guest_service import GuestServiceState, GuestServiceStatus
from tests.control.conftest import Api

pytestmark = pytest.mark.anyio
ONE = "/v1/sandboxes/one"
RUN = {"command": ["run"]}


def status(name: str, state: GuestServiceState, **more: Any) -> GuestServiceStatus:
    return GuestServiceStatus(name=name, state=state, since=datetime.now(UTC), **more)


async def until_told(api: Api, count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(30):
        while True:
            items = (await api.call("GET", "/v1/events?limit=100")).json["items"]
            told = [(item["kind"], item["message"]) for item in items if item["kind"].startswith("service_")]
            if len(told) >= count:
                return told
            await asyncio.sleep(0.02)


async def test_what_the_machine_says_is_in_the_record_and_in_its_history(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one", services={"web": {**RUN, "needs": ["db"]}, "db": RUN})
    agent = api.agent
    agent.tell_services(box["id"], status("web", GuestServiceState.WAITING), status("db", GuestServiceState.HEALTHY))
    assert await until_told(api, 1) == [("service_started", "db")]
    agent.tell_services(box["id"], status("web", GuestServiceState.UNHEALTHY), status("db", GuestServiceState.HEALTHY))
    assert (await until_told(api, 3))[1:] == [("service_started", "web"), ("service_unhealthy", "web")]
    [web, db] = (await api.call("GET", f"{ONE}/services")).json["items"]
    assert (web["name"], web["status"]["state"], db["status"]["state"]) == ("web", "unhealthy", "healthy")
    listed = (await api.call("GET", "/v1/sandboxes")).json["items"][0]
    assert [each["state"] for each in listed["services"]] == ["unhealthy", "healthy"]
    await api.call("POST", f"{ONE}/stop?wait_s=30")
    assert (await api.call("GET", ONE)).json["services"] == []
    assert (await api.call("GET", f"{ONE}/services")).json["items"][0]["status"] is None


async def test_added_changed_and_removed(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one")
    assert (await api.call("PUT", f"{ONE}/services/db", {**RUN, "port": 80})).json["spec"]["port"] == 80
    added = await asyncio.gather(*(api.call("PUT", f"{ONE}/services/s{number}", RUN) for number in range(5)))
    assert {answer.status for answer in added} == {200}
    assert len((await api.call("GET", f"{ONE}/services")).json["items"]) == 6, "none was lost to another"
    assert (await api.call("PUT", f"{ONE}/services/web", {**RUN, "needs": ["db"]})).status == 200
    for _ in range(1500):
        if "web" in (ordered := api.agent.world.boxes[box["id"]].order.spec.services):
            break
        await asyncio.sleep(0.02)
    assert "web" in ordered, "its machine is told at once"
    refused = await api.call("DELETE", f"{ONE}/services/db")
    assert (refused.status, refused.message) == (409, "service db is needed by web; remove or change that first")
    assert (await api.call("DELETE", f"{ONE}/services/web")).status == 200
    assert (await api.call("DELETE", f"{ONE}/services/web")).status == 404


@pytest.mark.parametrize(
    ("name", "spec", "field"),
    [
        ("web", {**RUN, "needs": ["no"]}, "services.web.needs[0]"),
        ("main", RUN, "services.main"),
        ("web", {**RUN, "port": 0}, "port"),
        ("web", {"command": ["run"], "health": {"tcp": True, "command": ["x"]}}, "health"),
        ("web", {**RUN, "restarts": "always"}, "restarts"),
    ],
)
async def test_refused_with_the_place(api: Api, name: str, spec: dict[str, Any], field: str) -> None:
    await api.image()
    await api.sandbox(name="one")
    answer = await api.call("PUT", f"{ONE}/services/{name}", spec)
    assert (answer.status, answer.json["error"]["field"]) == (400, field), answer.text


async def test_who_waits_for_health_is_answered_when_it_comes_or_cannot(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one", restart="on-failure", services={"db": RUN})
    waiting = asyncio.create_task(api.call("GET", f"{ONE}?until=healthy&wait_s=30"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    api.agent.tell_services(box["id"], status("db", GuestServiceState.HEALTHY))
    assert (await waiting).json["services"][0]["state"] == "healthy"
    waiting = asyncio.create_task(api.call("GET", f"{ONE}?until=stopped&wait_s=30"))
    refused = await api.call("PATCH", ONE, {"restart": "never", "health": {"command": ["true"], "restart": True}})
    assert (refused.status, "health.restart is for sandboxes" in refused.text) == (400, True)
    api.agent.end(box["id"], 0)
    assert (await waiting).json["state"] == "stopped"
    assert (await api.call("GET", f"{ONE}?until=running&wait_s=30")).json["state"] == "stopped", (
        "at once: it will not be"
    )
