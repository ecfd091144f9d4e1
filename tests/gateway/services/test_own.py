"""What the gateway answers itself, and how it stops."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from skerry.engines.simulator.core import Engine as SimulatedEngine
from skerry.engines.simulator.metrics import Observed
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.work import Work
from skerry.gateway import app
from skerry.gateway.services import lookout
from skerry.gateway.services.metrics import exposition
from skerry.model.service import EngineName
from tests.gateway.services.conftest import LAST, Engine, client, event, request, service

pytestmark = pytest.mark.anyio


async def test_the_page_needs_nothing_from_elsewhere(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    status, head, page = await (await client(world)).ask(request(method="GET", path="/chat", key=None))
    assert status == 200
    assert "default-src 'none'" in head
    assert b"/v1/chat/completions" in page
    assert b"://" not in page


async def test_it_stops_when_the_last_stream_has_ended(
    make_world: Any, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "DRAIN_S_MAX", 0.05)
    engines[0].streams([event(n=n) for n in range(20)] + [LAST], pause_s=0.02)
    world = await make_world(service(engines[0]))
    idle, streaming = await client(world), await client(world)
    assert (await idle.ask(request(method="GET", path="/v1/models")))[0] == 200
    streaming.writer.write(request())
    await streaming.reader.readuntil(b"data:")
    draining = asyncio.ensure_future(world.gateway._drain())
    async with asyncio.timeout(30):
        assert await idle.reader.read() == b"", "who asks nothing is let go at once"
        rest = await streaming.reader.read()
        await draining
    assert rest.endswith(LAST)
    assert rest.count(b"data:") == 19


def test_the_dashboard_shows_what_is_counted() -> None:
    kinds = dict(re.findall(r"# TYPE (\w+) (\w+)", exposition([], 0)))
    text = (Path(__file__).parents[3] / "docs/grafana.json").read_text()
    shown = {re.sub(r"_bucket$", "", name) for name in re.findall(r"skerry_gateway_\w+", text)}
    assert shown == set(kinds)
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            asked = target["expr"]
            counted = [kinds[name] == "counter" for name in re.findall(r"skerry_gateway_\w+", asked) if name in kinds]
            assert all(each == ("rate(" in asked) for each in counted)
            assert asked.count("(") == asked.count(")")
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(re.findall(r"\w+", asked))


METRICS = b"""# HELP vllm:num_requests_running Running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 3.0
vllm:num_requests_running{engine="1",model_name="chat"} 2.0
vllm:num_requests_running_total{engine="0"} 50.0
vllm:num_requests_waiting 7
vllm:kv_cache_usage_perc{engine="0"} 0.75
vllm:kv_cache_usage_perc{engine="1"} 1.0
vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="1000",num_gpu_blocks_override="None"} 1.0
vllm:cache_config_info{block_size="32",engine="1",num_gpu_blocks="None"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.8e+09
"""


async def test_engines_are_asked_what_they_have_to_do(make_world: Any, engines: list[Engine]) -> None:
    engines[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(METRICS), METRICS))
    world = await make_world(service(*engines[:2], engine=EngineName.VLLM))
    await world.gateway._lookout.look()
    [known] = world.gateway.registry.all()
    found = known.replicas["sb-one"].candidate
    assert (found.running, found.waiting, found.cache_use) == (5, 7, 0.875)
    assert (found.cache_blocks, found.adapters) == (2000, {"a", "b", "c"})
    other = known.replicas["sb-two"].candidate
    assert (other.running, other.waiting, other.cache_blocks, other.adapters) == (0, 0, 0, frozenset())


async def test_what_an_autoscaler_goes_by_is_read_of_one_engine_too(
    make_world: Any, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "EACH_S", 3600.0)  # only this test looks
    simulated = SimulatedEngine(Profile(blocks=10))
    simulated.submit(Work("w", 60, 100), 0.0)
    simulated.advance(0.1)
    said = Observed().text(simulated, "chat", "", asleep=False).encode()
    engines[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    watched = [
        "cache",
        "queue",
        "custom:vllm:engine_sleep_state",
        "custom:vllm:none",
        "custom:vllm:prompt_tokens_total",
    ]
    world = await make_world(service(engines[0], engine=EngineName.SIMULATOR, watched=watched))
    [known] = world.gateway.registry.all()
    await world.gateway._lookout.look()
    seen = known.seen()
    assert seen["cache"] > 0.3
    assert (seen["queue"], seen["custom:vllm:engine_sleep_state"]) == (0.0, 0.0)
    assert set(seen) == {"cache", "queue", "custom:vllm:engine_sleep_state"}, "a counter says nothing at first"
    await world.gateway._lookout.look()
    assert known.seen()["custom:vllm:prompt_tokens_total"] == 0.0, "by how much it grows"


async def test_a_metric_of_a_program_that_nobody_has_described(make_world: Any, engines: list[Engine]) -> None:
    for engine, open_jobs in zip(engines[:2], (3, 5), strict=True):
        said = b'jobs_open{kind="a"} %d\njobs_open{kind="b"} 1\njobs_wrong NaN\n' % open_jobs
        engine.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    engines[2].says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    world = await make_world(service(*engines, watched=["custom:jobs_open", "custom:jobs_wrong"]))
    [known] = world.gateway.registry.all()
    await world.gateway._lookout.look()
    assert engines[0].heads[-1].startswith("GET /metrics ")
    assert known.seen() == {"custom:jobs_open": 15.0}, "the third is taken to be like the others"


async def test_who_came_is_told_when_they_come_and_not_when_they_are_answered(
    make_world: Any, engines: list[Engine]
) -> None:
    released = asyncio.Event()

    async def then(writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await engines[0].answers(writer)

    engines[0].then = then
    world = await make_world(service(engines[0]))
    world.gateway._reporter._traffic = _nothing  # it reports by itself too: this test is who asks
    [known] = world.gateway.registry.all()
    caller = await client(world)
    before = known.counts.traffic(known)
    caller.writer.write(request())
    async with asyncio.timeout(30):
        while not known.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    came = known.counts.traffic(known)
    assert (before.arrived, came.arrived, came.in_flight, came.requests) == (0, 1, 1, 0)
    released.set()
    assert (await caller.answer())[0] == 200
    async with asyncio.timeout(30):
        while known.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    ended = known.counts.traffic(known)
    assert (ended.arrived, ended.requests) == (0, 1)


async def _nothing() -> None:
    pass
