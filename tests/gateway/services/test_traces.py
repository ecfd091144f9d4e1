"""Traces, told to a collector that is the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from skerry.settings import Settings
from tests.gateway.conftest import World
from tests.gateway.services.conftest import Engine, client, request, service

pytestmark = pytest.mark.anyio
MakeWorld = Callable[..., Awaitable[World]]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


class Collector:
    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.status = 200
        self.asked = 0
        self.url = ""

    async def hear(self, asked: web.Request) -> web.Response:
        self.asked += 1
        if self.status == 200:
            self.headers.append(asked.headers.get("x-whose"))
            for each in json.loads(await asked.read())["resourceSpans"]:
                [resource] = [a for a in each["resource"]["attributes"] if a["key"] == "service.name"]
                assert resource["value"]["stringValue"] == "skerry-gateway"
                self.spans += [span for scope in each["scopeSpans"] for span in scope["spans"]]
        return web.json_response({}, status=self.status)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.spans) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]


def told(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.hear)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_a_request_tells_of_each_try(make_world: MakeWorld, engines: list[Engine], collector: Collector) -> None:
    engines[0].says(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
    world = await make_world(
        service(*engines[:2]), otlp_endpoint=collector.url, otlp_headers={"x-whose": "ours"}, otlp_share=0
    )
    caller = await client(world)
    asked = 0
    while not engines[0].heads:
        assert (await caller.ask(request(None, f"traceparent: {PARENT}01")))[0] == 200
        asked += 1
    await collector.until(2 * asked + 1)
    [failed, *_], whole = collector.named("attempt"), collector.named("chat chat")[-1]
    assert whole["traceId"] == failed["traceId"] == PARENT[3:35]
    assert whole["parentSpanId"] == PARENT[36:52]
    assert told(whole)["gen_ai.usage.input_tokens"] == "7"
    assert told(whole)["skerry.client"] == "key"
    assert [each["status"]["message"] for each in collector.named("attempt") if "status" in each] == ["it answered 503"]
    tries = [each for each in collector.named("attempt") if each["parentSpanId"] == whole["spanId"]]
    assert told(tries[-1])["skerry.replica"] == "sb-two"
    assert told(tries[-1])["skerry.policy"] == "round-robin"
    sent = [line for line in engines[1].heads[-1].split("\r\n") if line.lower().startswith("traceparent")]
    assert sent == [f"traceparent: 00-{PARENT[3:35]}-{tries[-1]['spanId']}-01"], "the engine's own spans belong to it"
    assert set(collector.headers) == {"ours"}


async def test_who_does_not_trace_is_not_traced(
    make_world: MakeWorld, engines: list[Engine], collector: Collector
) -> None:
    world = await make_world(service(engines[0]), otlp_endpoint=collector.url, otlp_share=0)
    caller = await client(world)
    await caller.ask(request())
    await caller.ask(request(None, f"traceparent: {PARENT}00"))
    await caller.ask(request(None, f"traceparent: {PARENT}01"))
    await collector.until(2)
    assert {span["traceId"] for span in collector.spans} == {PARENT[3:35]}
    assert len(collector.named("chat chat")) == len(collector.named("attempt")) == 1
    heads = [head.lower().count("traceparent") for head in engines[0].heads]
    assert heads == [0, 1, 1]
    assert f"traceparent: {PARENT}00" in engines[0].heads[1], "passed on as it came"


async def test_a_collector_that_is_away_is_told_later(
    make_world: MakeWorld, engines: list[Engine], collector: Collector
) -> None:
    collector.status = 503
    world = await make_world(service(engines[0]), otlp_endpoint=collector.url)
    caller = await client(world)
    for _ in range(3):
        assert (await caller.ask(request()))[0] == 200
    async with asyncio.timeout(30):
        while not collector.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    collector.status = 200
    async with asyncio.timeout(30):
        while len(collector.named("attempt")) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len({span["traceId"] for span in collector.spans}) == 3
    assert len({span["spanId"] for span in collector.spans}) == len(collector.spans), "none was told twice"


def test_opentelemetrys_own_variables_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%3Db, tenant=7")
    settings = Settings(data_dir=tmp_path)
    assert (settings.otlp_endpoint, settings.otlp_headers) == (
        "http://collector:4318",
        {"x-key": "a=b", "tenant": "7"},
    )
    with pytest.raises(ValidationError, match="expected a URL"):
        Settings(data_dir=tmp_path, otlp_endpoint="collector:4318")
