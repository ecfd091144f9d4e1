"""Every path of the OpenAI interface through the gateway, before a simulator as its replica."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from skerry.engines.simulator.__main__ import parse
from skerry.engines.simulator.server import Simulator
from skerry.model.traffic import RouteReplica, UsageReport
from tests.gateway.conftest import World
from tests.gateway.services.conftest import Client, client, request, service

pytestmark = pytest.mark.anyio
MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
def anyio_backend() -> str:
    """The simulator runs on the standard library's loop alone."""
    return "asyncio"


@pytest.fixture
async def world(make_world: MakeWorld) -> AsyncIterator[World]:
    simulator = Simulator(parse(["--host", "127.0.0.1", "--port", "0", "--speed", "200", "--model", "chat"]))
    await simulator.start()
    replica = RouteReplica(id="sb-one", url=f"http://127.0.0.1:{simulator.server.port}")
    yield await make_world(service(replicas=[replica]))
    await simulator.stop()


async def ask(caller: Client, path: str, **body: Any) -> dict[str, Any]:
    status, _, answer = await caller.ask(request({"model": "chat", **body}, path=path))
    assert status == 200, answer
    return json.loads(answer)


def dechunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


def form(boundary: str, sound: bytes, **fields: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{told}\r\n'.encode()
        for name, told in fields.items()
    ]
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    return b"".join(parts) + file + sound + f"\r\n--{boundary}--\r\n".encode()


def recording(seconds: float) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(seconds * 8000) * 2))
    return made.getvalue()


async def test_a_response_whole_and_streamed(world: World) -> None:
    caller = await client(world)
    whole = await ask(caller, "/v1/responses", input="What does the sea do?", max_output_tokens=20)
    assert (whole["object"], whole["status"], whole["output"][0]["type"]) == ("response", "incomplete", "message")
    assert whole["usage"]["output_tokens"] == 20
    sent = {"model": "chat", "input": [{"role": "user", "content": "What does the sea do?"}], "max_output_tokens": 20}
    status, head, answer = await caller.ask(request({**sent, "stream": True}, path="/v1/responses"))
    assert status == 200
    assert "text/event-stream" in head
    events = [
        (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
        for each in dechunked(answer).decode().strip().split("\n\n")
        if (lines := each.split("\n"))
    ]
    assert all(name == told["type"] for name, told in events)
    assert [told["sequence_number"] for _, told in events] == list(range(len(events)))
    names = [name for name, _ in events]
    assert (names[0], names[-1]) == ("response.created", "response.incomplete")
    text = "".join(told["delta"] for name, told in events if name == "response.output_text.delta")
    assert text == whole["output"][0]["content"][0]["text"]
    await world.gateway._reporter.usage()
    used = [each for told in world.told if isinstance(told, UsageReport) for each in told.metered]
    assert sum(each.completion_tokens for each in used) == 40, "a stream's last event tells it, unasked"


async def test_a_response_that_calls_a_tool(world: World) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "name": "weather", "parameters": parameters}]
    whole = await ask(await client(world), "/v1/responses", input="Rain?", tools=tools)
    [call] = whole["output"]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert "city" in json.loads(call["arguments"])


async def test_what_is_nearer_comes_first(world: World) -> None:
    caller = await client(world)
    documents = ["a boat at dawn", "the tide runs out", "cold wind"]
    ranked = await ask(caller, "/v1/rerank", query="when does the tide run out", documents=documents, top_n=2)
    assert ranked["results"][0]["index"] == 1
    assert len(ranked["results"]) == 2
    scored = await ask(caller, "/v1/score", text_1="the tide runs out", text_2=documents)
    assert scored["data"][1]["score"] == 1.0
    status, _, answer = await caller.ask(request({"model": "chat", "query": "x"}, path="/v1/rerank"))
    assert (status, json.loads(answer)["error"]["param"]) == (400, "documents")


async def test_sound_is_heard_and_said(world: World) -> None:
    caller = await client(world)
    kind = "Content-Type: multipart/form-data; boundary=xyz"
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        sent = request(form("xyz", recording(4), model="chat"), kind, path=path)
        status, _, answer = await caller.ask(sent.replace(b"Content-Type: application/json\r\n", b""))
        told = json.loads(answer)
        assert (status, len(told["text"].split())) == (200, 10)
        assert told["usage"]["input_tokens"] == 200
    sent = request(form("xyz", recording(4), model="chat", stream="true"), kind, path="/v1/audio/transcriptions")
    status, _, answer = await caller.ask(sent.replace(b"Content-Type: application/json\r\n", b""))
    last = json.loads(dechunked(answer).decode().strip().split("\n\n")[-1].removeprefix("data: "))
    assert (status, last["type"], last["text"]) == (200, "transcript.text.done", told["text"])
    said = {"model": "chat", "input": "The tide runs out past low rock", "voice": "gull"}
    status, head, answer = await caller.ask(request(said, path="/v1/audio/speech"))
    assert (status, "audio/wav" in head.lower()) == (200, True)
    with wave.open(io.BytesIO(dechunked(answer))) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(2.8)
        assert len(sound.readframes(10**6)) == sound.getnframes() * 2
    status, _, answer = await caller.ask(request({**said, "response_format": "mp3"}, path="/v1/audio/speech"))
    assert (status, json.loads(answer)["error"]["param"]) == (400, "response_format")
