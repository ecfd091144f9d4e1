"""Services over HTTP: what is refused and in which words, what gateways are told and tell, and tokens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from skerry.client.calls import services as calls
from skerry.model.rollout import Rollout, RolloutAction
from skerry.model.service import EngineName, PolicyName, ServiceSpec
from skerry.model.service_update import ServiceUpdate
from skerry.model.token import Scope, TokenSpec
from tests.control.conftest import Api
from tests.control.test_route_feed import listening

pytestmark = pytest.mark.anyio

WEB = {"name": "web", "image": "debian:12", "command": ["serve"], "port": 80, "memory": "16MiB", "drain": 0}


def test_the_words_of_the_client_are_the_models() -> None:
    assert set(calls.ServiceOptions.__annotations__) == set(ServiceSpec.model_fields)
    assert set(ServiceUpdate.model_fields) == set(ServiceSpec.model_fields) - {"name"}
    assert set(calls.TokenOptions.__annotations__) == set(TokenSpec.model_fields)
    assert tuple(EngineName) == calls.ENGINES
    assert tuple(PolicyName) == calls.POLICIES
    assert set(calls.STRATEGIES) == set(Rollout)
    assert tuple(RolloutAction) == calls.ACTIONS
    assert tuple(Scope) == calls.SCOPES


async def test_a_service_from_create_to_delete(api: Api) -> None:
    await api.image()
    async with listening(api) as following:
        assert (await following())["services"] == []
        made = await api.call("POST", "/v1/services?wait_s=30", {**WEB, "replicas": 2, "models": ["m"]})
        assert made.status == 201, made.text
        assert (made.json["status"], made.json["ready"], len(made.json["replicas"])) == ("healthy", 2, 2)
        assert made.json["url"].startswith("http://web.localhost")
        told: dict[str, Any] = {}
        while len(told.get("replicas", [])) < 2:
            told = (await following()).get("service") or told
        assert (told["models"], told["wakes"]) == (["web", "m"], False)
        assert (await api.call("GET", "/v1/services")).json["items"][0]["name"] == "web"
        assert len((await api.call("GET", "/v1/services/web/replicas")).json["items"]) == 2
        explained = (await api.call("GET", "/v1/explain/web")).json
        assert (explained["noun"], explained["state"], len(explained["placed"])) == ("service", "healthy", 2)
        assert explained["says"] == ["It is to have 2 replicas: as declared."]
        scaled = await api.call("POST", "/v1/services/web/scale?wait_s=30", {"replicas": 1})
        assert (scaled.status, scaled.json["wanted"]) == (200, 1)
        changed = await api.call("PATCH", "/v1/services/web", {"routing": {"policy": "random"}, "env": {"A": "b"}})
        assert (changed.status, changed.json["revision"]) == (202, 2)
        assert changed.json["spec"]["routing"]["retries"] == 2, "only what is given changes"
        revisions = (await api.call("GET", "/v1/services/web/revisions")).json["items"]
        assert [(each["number"], each["reason"]) for each in revisions] == [(1, "created"), (2, "routing, env")]
        assert (await api.call("DELETE", "/v1/images/debian:12")).status == 409
        gone = await api.call("DELETE", "/v1/services/web?now=true&wait_s=30")
        assert (gone.status, gone.json["state"]) == (200, "deleted")
        while "service_gone" not in (await following()):
            pass


@pytest.mark.parametrize(
    ("spec", "say"),
    [
        ({"image": None}, "image: engine command needs one"),
        ({"model": "llama"}, "model: 'llama' is not allowed; expected a folder in the sandbox"),
        (
            {"fork": True, "addresses": ["http://10.0.0.5:8000"], "image": None, "command": None},
            "addresses: servers that are there already have no image, command, prepare, scaling or fork",
        ),
        ({"image": "nothing:1"}, "there is no image nothing:1"),
        ({"name": "web--80"}, "name: web--80 ends as the address of a sandbox's port does"),
        ({"roles": {"prefill": 1}}, "roles: engine command"),
        ({"engine": "vllm"}, "model: engine vllm needs one"),
        ({"strategy": {"surge": 0}}, "strategy: surge and unavailable"),
        ({"scaling": {"minimum": 9, "maximum": 2}}, "scaling.minimum: at most as many as maximum"),
        ({"secrets": [{"name": "no", "env": "X"}]}, "secrets[0].name: there is no secret no"),
        ({"mounts": [{"volume": "no", "target": "/x"}]}, "mounts[0].volume: there is no volume no"),
        ({"models": ["other"]}, "models[0]: other is what service other answers to already"),
    ],
)
async def test_what_is_refused_and_why(api: Api, spec: dict[str, Any], say: str) -> None:
    await api.image()
    assert (await api.call("POST", "/v1/services", {**WEB, "name": "other"})).status == 202
    answer = await api.call("POST", "/v1/services", {**WEB, **spec})
    assert answer.status in (400, 404, 409), answer.text
    assert answer.message.startswith(say), answer.message
    assert [each["name"] for each in (await api.call("GET", "/v1/services")).json["items"]] == ["other"]


async def test_a_label_that_no_service_can_have_is_refused(api: Api) -> None:
    answer = await api.call("GET", "/v1/services?label=a%00=b")
    assert (answer.status, answer.message) == (400, "label: 'a\\x00=b' is not allowed; give KEY=VALUE")


async def test_what_gateways_ask_and_tell(api: Api) -> None:
    await api.image()
    await api.call("POST", "/v1/services", {**WEB, "name": "other"})
    spec = {"name": "alice", "services": ["other"], "limits": {"requests_per_minute": 3}}
    assert (await api.call("POST", "/v1/tokens", {"services": ["othr"]})).message == (
        "services[0]: there is no service othr"
    )
    made = (await api.call("POST", "/v1/tokens", spec)).json
    secret, token = made["secret"], made["token"]["id"]
    assert secret not in (await api.call("GET", "/v1/tokens")).text

    async def access(bearer: str) -> Any:
        return await api.call("GET", "/internal/access", headers={"Authorization": f"Bearer {bearer}"})

    found = await access(secret)
    assert (found.json["client"], found.json["services"], found.json["scopes"]) == (
        "alice",
        ["other"],
        ["infer", "http"],
    )
    assert (await access(api.key)).json["services"] == []
    assert (await access("st_" + "0" * 64)).status == 401
    left_s = 60 - time.time() % 60
    await asyncio.sleep(left_s if left_s < 5 else 0)  # what follows is within one minute of the clock
    taken = [
        (await api.call("POST", "/internal/take", {"gateway": gateway, "client": token, "requests": 2})).json
        for gateway in ("a", "b")
    ]
    assert [each["requests"] for each in taken] == [2, 1]
    hour = "2026-11-27T12:00:00Z"
    service = (await api.call("GET", "/v1/services/other")).json
    report = {"gateway": "a", "number": 1, "metered": [{"service": service["id"], "model": "m", "client": "alice",
              "hour": hour, "requests": 1, "prompt_tokens": 7}]}  # fmt: skip
    for _ in range(2):
        assert (await api.call("POST", "/internal/usage", report)).status == 200
    [used] = (await api.call("GET", "/v1/services/other/usage?since=2026-11-27T00:00:00Z")).json["items"]
    assert (used["requests"], used["prompt_tokens"]) == (1, 7)
    traffic = {"gateway": "a", "seconds": 1, "services": [{"service": service["id"], "in_flight": 4, "requests": 10}]}
    assert (await api.call("POST", "/internal/traffic", traffic)).status == 200
    signals = (await api.call("GET", "/v1/services/other")).json["signals"]
    assert (signals["in_flight"], signals["requests_per_s"]) == (4, 2.0)
    assert (await api.call("DELETE", "/v1/tokens/alice")).json["revoked_at"]
    assert (await access(secret)).message == "this token was revoked; ask for another"
    bad = await api.call("POST", "/internal/traffic", {"gateway": "a"})
    assert (bad.status, bad.message) == (400, "seconds: this field is required")
