"""Every API against the simulated engine, which answers as vLLM does: whole and in pieces."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from skerry.bench.measure.summary import summarize
from skerry.bench.plan import Plan
from skerry.bench.reading import read_here
from skerry.bench.run import run
from skerry.engines.simulator.__main__ import parse
from skerry.engines.simulator.server import Simulator


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    up, ports = threading.Event(), list[int]()
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        simulator = Simulator(parse(["--host", "127.0.0.1", "--port", "0", "--speed", "200", "--model", "tide"]))
        await simulator.start()
        ports.append(simulator.server.port)
        up.set()
        await over.wait()
        await simulator.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(20)
    yield ports[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


GENERATING = ("chat", "completions", "responses")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", [*GENERATING, "embeddings", "rerank", "transcriptions", "speech"])
def test_answers_are_read(api: str, stream: bool, port: int) -> None:
    data = {"input_tokens": "12", "output_tokens": "5", "sound": "1" if api == "transcriptions" else None}
    load = {"concurrency": 2, "requests": 4}
    where = {"url": f"http://127.0.0.1:{port}", "model": "tide", "api": api, "stream": stream}
    found = summarize(run(read_here(Plan, {**where, "load": load, "data": [data]})))
    assert (found.requests, found.says) == (4, {})
    assert found.metrics["input_tokens"].min > 0
    if api in GENERATING:
        assert found.metrics["output_tokens"].mean == 5
    heard = api == "speech" or (stream and api in (*GENERATING, "transcriptions"))
    assert ("ttft" in found.metrics) == heard
    assert ("tpot" in found.metrics) == (stream and api in (*GENERATING, "transcriptions"))


@pytest.mark.parametrize("api", GENERATING)
def test_what_was_answered_goes_with_the_next_turn(api: str, port: int) -> None:
    data = {"input_tokens": "12", "output_tokens": "20", "turns": "2"}
    for stream in (True, False):
        where = {"url": f"http://127.0.0.1:{port}", "model": "tide", "api": api, "stream": stream}
        found = run(read_here(Plan, {**where, "load": {"concurrency": 1, "requests": 2}, "data": [data]}))
        first, second = sorted(found, key=lambda record: record.turn)
        assert second.input_tokens > first.input_tokens + 12 + 8, "the answer is a part of it"


def test_documents_are_put_in_order(port: int) -> None:
    where = {"url": f"http://127.0.0.1:{port}", "model": "tide", "api": "rerank"}
    load = {"concurrency": 2, "requests": 4}
    few, many = (
        summarize(run(read_here(Plan, {**where, "load": load, "data": [{"input_tokens": "12", "documents": n}]})))
        for n in ("1", "9")
    )
    assert (few.failed, many.failed) == (0, 0)
    assert many.metrics["input_tokens"].mean > 3 * few.metrics["input_tokens"].mean
