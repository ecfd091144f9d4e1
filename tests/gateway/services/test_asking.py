"""A request to a model: who answers it, what the replica sees of it, and what the caller sees of the answer."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from skerry.gateway.services.journal import Journal
from tests.gateway.conftest import KEY
from tests.gateway.services.conftest import ANSWER, DOOR, LAST, Engine, chunk, client, event, request, service

pytestmark = pytest.mark.anyio


async def test_requests_go_round_and_their_bytes_stay_as_they_are(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(*engines[:2]))
    caller = await client(world)
    odd = b'{ "model" : "chat", "messages":[],"tools": [{"x": 1.0}], "n": 1e2 }'
    for body in (None, None, odd, odd):
        status, head, answer = await caller.ask(request(body, "Accept-Language: de"))
        assert (status, answer) == (200, ANSWER)
        assert "\r\nX-Skerry-Replica: sb-" in head
        assert "\r\nX-Skerry-Why: its turn" in head
        assert "\r\nX-Request-Id: req-" in head
    assert [each.bodies[1] for each in engines[:2]] == [odd, odd]
    assert [each.connections for each in engines[:2]] == [1, 1]
    sent = engines[0].heads[0]
    assert sent.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert "\r\nAccept-Language: de\r\n" in sent
    assert KEY not in sent
    assert "\r\nX-Request-Id: req-" in sent
    assert "\r\nX-Forwarded-For: 127.0.0.1\r\n" in sent
    ids = [each.split("X-Request-Id: ")[1].split("\r\n")[0] for engine in engines[:2] for each in engine.heads]
    assert len(set(ids)) == 4


async def test_a_trace_is_passed_on_and_named_in_the_log(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    written = io.StringIO()
    journal = world.gateway.services.journal = Journal(written, on=True)
    caller = await client(world)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    own = (f"traceparent: 00-{trace}-00f067aa0ba902b7-01", "traceparent: 00-nonsense")
    for line in own:
        status, _, _ = await caller.ask(request(None, line, "tracestate: a=1"))
        assert status == 200
        assert f"\r\n{line}\r\ntracestate: a=1\r\n" in engines[0].heads[-1]
    journal.flush()
    assert [line.partition(" trace=")[2] for line in written.getvalue().splitlines()] == [trace, ""]
    assert [raw for raw in world.gateway.services.heads if trace.encode() in raw] == []


async def test_a_stream_comes_as_it_is_sent(make_world: Any, engines: list[Engine]) -> None:
    parts = [event(delta="a"), event(delta="b"), chunk(b"data: [DONE]\n\n"), LAST]
    engines[0].streams(parts, pause_s=0.02)
    world = await make_world(service(engines[0]))
    caller = await client(world)
    caller.writer.write(request({"model": "chat", "stream": True, "messages": []}))
    head = (await caller.reader.readuntil(b"\r\n\r\n")).decode()
    assert "content-type: text/event-stream" in head
    came = [await caller.reader.readexactly(len(part)) for part in parts]
    assert came == parts
    assert (await caller.ask(request()))[0] == 200, "the connection goes on"


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 50])
async def test_a_stream_cut_anywhere_is_the_same(make_world: Any, engines: list[Engine], cut: int) -> None:
    whole = b"5;x=1\r\nhello\r\n" + chunk(b"y" * 5000) + chunk(b"\r\n0\r\n\r\n") + b"0\r\nX-Trailer: 1\r\n\r\n"
    engines[0].streams([whole[at : at + cut] for at in range(0, len(whole), cut)])
    world = await make_world(service(engines[0]))
    reader, writer = await world.open()
    writer.write(request(None, "Connection: close"))
    async with asyncio.timeout(30):
        answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    taken = b""
    while answer:
        size, _, answer = answer.partition(b"\r\n")
        taken += answer[: int(size, 16)]
        answer = answer[int(size, 16) + 2 :]
    assert taken == b"hello" + b"y" * 5000 + b"\r\n0\r\n\r\n"


async def test_bodies_in_pieces_in_chunks_and_one_after_the_other(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    caller = await client(world)
    whole = request()
    for cut in (1, 20, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        caller.writer.write(whole[:cut])
        await asyncio.sleep(0.01)
        assert (await caller.ask(whole[cut:]))[0] == 200
    caller.writer.write(whole * 5)
    assert [(await caller.answer())[0] for _ in range(5)] == [200] * 5
    body = whole.partition(b"\r\n\r\n")[2]
    head = whole.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    assert (await caller.ask(head + chunk(body[:9]) + chunk(body[9:]) + LAST))[0] == 200
    assert engines[0].bodies == [body] * 10


async def test_models_are_those_that_the_caller_may_use(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(
        service(engines[0], models=["chat", "gpt-4o"], adapters=["tuned"]),
        service(engines[1], name="free", public=True),
        service(engines[2], name="foreign", project="other"),
    )
    caller = await client(world)

    async def names(key: str | None) -> list[str]:
        _, _, body = await caller.ask(request(path="/v1/models", method="GET", key=key))
        return [each["id"] for each in json.loads(body)["data"]]

    assert await names(KEY) == ["chat", "gpt-4o", "tuned", "free"]
    assert await names(None) == ["free"]
    for model, wanted, code in (
        ("gpt-4o", 200, None),
        ("tuned", 200, None),
        ("free", 200, None),
        ("foreign", 404, "model_not_found"),
        ("nothing", 404, "model_not_found"),
    ):
        status, _, body = await caller.ask(request({"model": model}))
        assert status == wanted, model
        assert wanted == 200 or json.loads(body)["error"]["code"] == code


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(key=None), 401, "invalid_api_key"),
        (request(key="sk_" + "b" * 64), 401, "invalid_api_key"),
        (request(b"{"), 400, "invalid"),
        (request(b"[]"), 400, "invalid"),
        (request(b'{"model": 1}'), 400, "invalid"),
        (request(b"{}"), 404, "model_not_found"),
        (request(path="/v1/nothing"), 404, "not_found"),
        (request(path="/v1/chat/completions", method="GET"), 404, "not_found"),
        (request(b"{}", "Content-Length: 99999999999", host=DOOR), 400, None),
    ],
)
async def test_refusals_are_in_openais_form(
    make_world: Any, engines: list[Engine], sent: bytes, status: int, code: str | None
) -> None:
    world = await make_world(service(engines[0]))
    found, _, body = await (await client(world)).ask(sent)
    assert found == status, body
    told = json.loads(body)["error"]
    assert told["message"]
    if code is not None:
        assert told["code"] == code
        assert set(told) == {"message", "type", "param", "code"}
    assert engines[0].bodies == []


async def test_callers_and_engines_that_know_no_chunks(make_world: Any, engines: list[Engine]) -> None:
    world = await make_world(service(engines[0]))
    engines[0].streams([event(delta="a"), chunk(b"data: [DONE]\n\n"), LAST])
    old = request().replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    for _ in range(2):
        answer = await world.raw(old)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert body == b'data: {"delta": "a"}\n\ndata: [DONE]\n\n'
    engines[0].says(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil it closes", hangs_up=True)
    caller = await client(world)
    for _ in range(2):
        assert (await caller.ask(request()))[2].endswith(b"f\r\nuntil it closes\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "after",
    [b"X", b"\r\n\r\nGET", b"0\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{"],
)
async def test_what_follows_a_head_that_is_known_is_read_as_strictly(
    make_world: Any, engines: list[Engine], after: bytes
) -> None:
    world = await make_world(service(engines[0]))
    assert (await (await client(world)).ask(request()))[0] == 200
    answer = await world.raw(request() + after + b" x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer
    assert len(engines[0].bodies) == 2


async def test_an_answer_longer_than_it_says_is_cut_and_its_connection_closed(
    make_world: Any, engines: list[Engine]
) -> None:
    engines[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    world = await make_world(service(engines[0]))
    caller, other = await client(world), await client(world)
    assert (await caller.ask(request()))[2] == b"ok"
    assert (await other.ask(request()))[2] == b"ok"
    assert engines[0].connections == 2
