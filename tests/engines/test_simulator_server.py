"""The simulated engine as a server: the real API of vLLM over sockets, faster than real time."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from skerry.engines import zmtp
from skerry.engines.kv_events import decode
from skerry.engines.simulator.__main__ import parse
from skerry.engines.simulator.engine import SimulatorEngine
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.server import Options, Simulator
from skerry.gateway.services.exposed import adapters, cache_blocks

pytestmark = pytest.mark.anyio
FAST = ("--host", "127.0.0.1", "--port", "0", "--speed", "200", "--model", "tide")
WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
    },
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Caller:
    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator, self.session = simulator, session
        self.url = f"http://127.0.0.1:{simulator.server.port}"

    async def post(self, path: str, body: dict[str, Any], status: int = 200) -> Any:
        async with self.session.post(self.url + path, json=body) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if "json" in response.content_type else text

    async def get(self, path: str, status: int = 200) -> str:
        async with self.session.get(self.url + path) as response:
            assert response.status == status
            return await response.text()

    async def stream(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        async with self.session.post(self.url + path, json={**body, "stream": True}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            lines = [line[6:] for line in (await response.text()).split("\n") if line]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    async def metric(self, name: str) -> float:
        found = re.search(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", await self.get("/metrics"), re.M)
        assert found, name
        return float(found[1])


async def started(*arguments: str) -> Simulator:
    simulator = Simulator(parse([*FAST, *arguments]))
    await simulator.start()
    return simulator


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    simulator = await started("--adapter", "pirate", "--events-port", "0", "--model", "high-tide")
    async with aiohttp.ClientSession() as session:
        yield Caller(simulator, session)
    await simulator.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def asked(text: str = "What does the sea do at dawn, and who sees it?", **more: Any) -> dict[str, Any]:
    return {"model": "tide", "messages": [{"role": "user", "content": text}], **more}


async def test_a_chat_whole_and_as_a_stream_say_the_same(caller: Caller) -> None:
    whole = await caller.post("/v1/chat/completions", asked(max_tokens=20, ignore_eos=True))
    choice = whole["choices"][0]
    assert choice["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 20
    assert whole["usage"]["total_tokens"] == 20 + whole["usage"]["prompt_tokens"]
    usage = {"include_usage": True}
    chunks = await caller.stream("/v1/chat/completions", asked(max_tokens=20, ignore_eos=True, stream_options=usage))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(pieces) == choice["message"]["content"]
    assert len([piece for piece in pieces if piece]) == 20
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-2:] == [None, "length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 20
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    ends = await caller.post("/v1/chat/completions", asked())
    assert ends["choices"][0]["finish_reason"] == "stop"


async def test_completions_and_embeddings(caller: Caller) -> None:
    whole = await caller.post("/v1/completions", {"model": "high-tide", "prompt": "Low rock", "max_tokens": 4})
    assert whole["choices"][0]["finish_reason"] == "length"
    chunks = await caller.stream("/v1/completions", {"model": "tide", "prompt": "Low rock", "max_tokens": 4})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    vectors = await caller.post("/v1/embeddings", {"model": "tide", "input": ["a", "b", "a"], "dimensions": 8})
    first, second, third = (one["embedding"] for one in vectors["data"])
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1)
    assert (await caller.post("/tokenize", {"prompt": "low rock"}))["count"] == 2


async def test_tools_are_called_with_arguments_that_their_schema_allows(caller: Caller) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    whole = await caller.post("/v1/chat/completions", asked(tools=tools))
    call = whole["choices"][0]["message"]["tool_calls"][0]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]) == {"city": "tide", "unit": "C"}
    chunks = await caller.stream("/v1/chat/completions", asked(tools=tools))
    deltas = [chunk["choices"][0]["delta"].get("tool_calls", [{}])[0].get("function", {}) for chunk in chunks]
    assert deltas[0]["name"] == "weather"
    assert "".join(delta.get("arguments", "") for delta in deltas) == call["function"]["arguments"]
    done = asked(tools=tools)
    done["messages"] += [whole["choices"][0]["message"], {"role": "tool", "content": "rain", "tool_call_id": "x"}]
    assert (await caller.post("/v1/chat/completions", done))["choices"][0]["message"]["content"]
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER["parameters"]}}
    answer = await caller.post("/v1/chat/completions", asked(response_format=form))
    assert json.loads(answer["choices"][0]["message"]["content"])["unit"] == "C"


async def test_a_conversation_finds_its_prefix_and_events_tell_of_it(caller: Caller) -> None:
    publisher = caller.simulator.publisher
    assert publisher is not None
    events: list[Any] = []
    port = publisher._servers[0].sockets[0].getsockname()[1]  # pyright: ignore[reportPrivateUsage]

    async def listen() -> None:
        async for _, payload in zmtp.follow("127.0.0.1", port):
            events.extend(decode(payload))

    listener = asyncio.create_task(listen())
    await until(lambda: bool(publisher.followers))
    body = asked(" the gull sees the boat" * 20, max_tokens=64, ignore_eos=True)
    first = await caller.post("/v1/chat/completions", body)
    body["messages"] += [first["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    second = await caller.post("/v1/chat/completions", body)
    total = first["usage"]["total_tokens"]
    assert total - 32 < second["usage"]["prompt_tokens_details"]["cached_tokens"] < total
    assert await caller.metric("prefix_cache_hits_total") > 0
    other = await caller.post("/v1/chat/completions", {**body, "model": "pirate"})
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    await caller.post("/reset_prefix_cache", {})
    await until(lambda: bool(events) and events[-1].kind == "cleared")
    listener.cancel()
    stored = [event for event in events if event.kind == "stored"]
    assert all(len(event.tokens) == 16 * len(event.blocks) for event in stored)
    assert {event.adapter for event in stored} == {None, "pirate"}


async def test_adapters_sleep_and_metrics(caller: Caller) -> None:
    names = [model["id"] for model in json.loads(await caller.get("/v1/models"))["data"]]
    assert names == ["tide", "high-tide", "pirate"]
    assert (await caller.post("/v1/chat/completions", {**asked(), "model": "nobody"}, 404))["error"]["param"] == "model"
    await caller.post("/v1/load_lora_adapter", {"lora_name": "new", "lora_path": "/adapters/new"})
    await caller.post("/v1/load_lora_adapter", {"lora_name": "new", "lora_path": "/adapters/new"}, 400)
    await caller.post("/v1/chat/completions", {**asked(max_tokens=2), "model": "new"})
    await caller.post("/v1/unload_lora_adapter", {"lora_name": "new"})
    await caller.post("/v1/chat/completions", {**asked(), "model": "new"}, 404)
    await caller.post("/sleep?level=1", {})
    assert json.loads(await caller.get("/is_sleeping"))["is_sleeping"]
    await caller.post("/v1/chat/completions", asked(), 503)
    await caller.post("/wake_up", {})
    await caller.post("/v1/chat/completions", asked(max_tokens=2))
    assert await caller.metric("generation_tokens_total") == 4
    assert await caller.metric("num_requests_running") == 0
    metrics = await caller.get("/metrics")
    for name in ("time_to_first_token_seconds_count", "kv_cache_usage_perc", "lora_requests_info", "cache_config_info"):
        assert f"vllm:{name}{{" in metrics
    assert cache_blocks(metrics.encode(), SimulatorEngine.metrics.cache_config) > 1000
    assert adapters(metrics.encode(), SimulatorEngine.metrics.adapters) == frozenset()


@pytest.mark.parametrize(
    ("path", "body", "say"),
    [
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "max_tokens"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10**6}, "131072"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 3}, "n:"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "prompt"),
        ("/v1/embeddings", {}, "input"),
        ("/simulator/faults", {"kind": "flood"}, "refuse, error"),
    ],
)
async def test_what_is_wrong_is_said(caller: Caller, path: str, body: dict[str, Any], say: str) -> None:
    answer = await caller.post(path, body, 400)
    assert say in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


async def test_failures_on_demand(caller: Caller) -> None:
    fault = "/simulator/faults"
    await caller.post(fault, {"kind": "error", "status": 503, "count": 1})
    await caller.post("/v1/chat/completions", asked(), 503)
    await caller.post(fault, {"kind": "break", "tokens": 2, "count": 1})
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.stream("/v1/chat/completions", asked())
    await caller.post(fault, {"kind": "hang", "count": 1})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.post("/v1/chat/completions", asked()), 0.1)
    await caller.post(fault, {"kind": "unhealthy", "status": 500})
    await caller.get("/health", 500)
    async with caller.session.delete(caller.url + fault) as response:
        assert await response.json() == {"faults": []}
    await caller.get("/health")
    await caller.post(fault, {"kind": "slow", "factor": 3})
    await until(lambda: caller.simulator.engine.slowness == 3)
    await caller.post(fault, {"kind": "refuse", "seconds": 1})
    for is_refused in (True, False):
        async with asyncio.timeout(30):
            while await refuses(caller) is not is_refused:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    await caller.post("/v1/chat/completions", asked())


async def refuses(caller: Caller) -> bool:
    try:
        await caller.get("/health")
    except aiohttp.ClientConnectorError:
        return True
    return False


async def test_who_goes_away_is_not_answered_any_more() -> None:
    simulator = await started("--speed", "1")
    async with aiohttp.ClientSession() as session:
        caller = Caller(simulator, session)
        body = asked(max_tokens=1000, ignore_eos=True, stream=True)
        async with session.post(caller.url + "/v1/chat/completions", json=body) as response:
            await response.content.readline()
            assert simulator.engine.running == 1
        await until(lambda: simulator.engine.idle)
        assert simulator.engine.counters.aborted == 1
        assert await caller.metric("kv_cache_usage_perc") == 0
    await simulator.stop()


async def test_prefill_and_decode_apart() -> None:
    prefill, decode_ = await started(), await started()
    async with aiohttp.ClientSession() as session:
        first, second = Caller(prefill, session), Caller(decode_, session)
        wish = {"do_remote_decode": True, "do_remote_prefill": False}
        body = asked(" the gull" * 100)
        held = await first.post("/v1/chat/completions", {**body, "max_tokens": 1, "kv_transfer_params": wish})
        params = held["kv_transfer_params"]
        assert params["do_remote_prefill"]
        assert prefill.engine.cache_use > 0
        answer = await second.post("/v1/chat/completions", {**body, "max_tokens": 8, "kv_transfer_params": params})
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == answer["usage"]["prompt_tokens"]
        assert prefill.engine.cache_use == 0
        again = await second.post("/v1/chat/completions", {**body, "max_tokens": 8, "kv_transfer_params": params})
        assert again["choices"] == answer["choices"]  # it is not held any more, so it was computed here
    await prefill.stop()
    await decode_.stop()


def test_options_of_the_command_line() -> None:
    options = parse(["--port", "1", "--blocks", "100", "--step-s", "0.01", "--fault", "error:status=429,share=0.5"])
    assert options.profile == Profile(blocks=100, step_s=0.01)
    assert options.faults[0].status == 429
    assert parse([]) == Options()
    for bad in (["--blocks", "0"], ["--speed", "0"], ["--fault", "flood"]):
        with pytest.raises(SystemExit):
            parse(bad)
