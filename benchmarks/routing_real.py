"""The real sglang-router and our gateway before simulated engines, over HTTP: does cache_aware do what we read of it?

The table of `routing.py` is of simulated time, in which a program of others cannot take part. Here the same kind of
conversations go through the real ones in real time, each with engines of its own; how much is found hardly depends on
how busy this machine is, the times do.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
from peers.cache_aware import CacheAware
from peers.mock_openai import MODEL
from peers.nginx import free_port
from peers.routers import KEY, Missing, Program, ours, sglang_router
from routing_fleet import Fleet, Result
from routing_traces import BLOCK_TOKENS, Session, Shape, synthetic

from skerry.engines.simulator.engine import SimulatorEngine
from skerry.engines.simulator.profile import Profile
from skerry.gateway.routing.catalog import policy
from skerry.gateway.services.exposed import total
from skerry.model.service import EngineName, PolicyName

REPLICAS: Final = 4
SHAPE: Final = Shape(sessions=160, per_s=4.0, turns=3.0, think_s=3.0)
ANSWER_S_MAX: Final = 300.0
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def words(seed: int, count: int) -> str:
    """So many tokens of the simulator: four letters each."""
    chance = random.Random(seed)
    return "".join(" " + "".join(chance.choices(LETTERS, k=4)) for _ in range(count))


def measure(profile: Profile, seed: int = 1) -> None:
    sessions = synthetic(SHAPE, seed)
    print(f"\nreal programs before {REPLICAS} simulated engines, {SHAPE.sessions} conversations at {SHAPE.per_s:g}/s")
    print(f"{'':<34}{'hit':>7}{'TTFT p50':>11}{'p99 ms':>10}{'max:mean':>10}", flush=True)
    figures: list[dict[str, object]] = []
    for name, start in (("sglang-router", sglang_router), ("auto", lambda ports: ours(ports, EngineName.SIMULATOR))):
        backends = [_simulator(profile) for _ in range(REPLICAS)]
        try:
            gateway = start([each.port for each in backends])
            try:
                found = asyncio.run(_drive(sessions, gateway.port, [each.port for each in backends]))
            finally:
                gateway.stop()
        except Missing as missing:
            print(f"{name}: {missing}")
            continue
        finally:
            for each in backends:
                each.stop()
        _tell(f"{name}, real", found)
        for figure, value, unit in (
            ("hit_ratio", found.hit_ratio, "share"),
            ("ttft_p99_ms", found.ttft_p99_s * 1000, "ms"),
        ):
            figures.append({"name": f"routing/chat-real/{name}/{figure}", "ours": round(value, 4), "unit": unit})
    simulated = Fleet(CacheAware(), REPLICAS, profile, fine=True).run(sessions)
    _tell("cache_aware as we read it, simulated", simulated)
    _tell("auto, simulated", Fleet(policy(PolicyName.AUTO), REPLICAS, profile).run(sessions))
    for figure in figures:
        print(json.dumps(figure), flush=True)


def _tell(name: str, found: Result) -> None:
    times = f"{found.ttft_p50_s * 1000:>11.0f}{found.ttft_p99_s * 1000:>10.0f}"
    print(f"{name:<34}{found.hit_ratio:>7.3f}{times}{found.imbalance:>10.2f}", flush=True)


def _simulator(profile: Profile) -> Program:
    port = free_port()
    command = [sys.executable, "-m", "skerry.engines.simulator", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", MODEL, "--blocks", str(profile.blocks), "--sequences", str(profile.sequences)]
    command += ["--batch-tokens", str(profile.batch_tokens), "--slowness", str(profile.slowness)]
    program = Program("simulator", command, port)
    program.wait_ready()
    return program


async def _drive(sessions: Sequence[Session], port: int, backends: Sequence[int]) -> Result:
    began_s = time.monotonic()
    ttfts: list[float] = []
    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(ANSWER_S_MAX)) as client:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with asyncio.TaskGroup() as group:
            for number, session in enumerate(sessions):
                group.create_task(_converse(client, url, session, number, began_s, ttfts, latencies))
        texts: list[bytes] = []
        for backend in backends:
            async with client.get(f"http://127.0.0.1:{backend}/metrics") as answer:
                texts.append(await answer.read())
    names = SimulatorEngine.metrics
    hits = sum(total(text, names.prefix_hits) for text in texts)
    queries = sum(total(text, names.prefix_queries) for text in texts)
    counts = [total(text, "vllm:request_success_total") for text in texts]
    ordered, count = sorted(ttfts), len(ttfts)
    p99_s = ordered[min(count - 1, int(count * 0.99))]
    imbalance = max(counts) * len(backends) / sum(counts)
    return Result(hits / queries, ordered[count // 2], p99_s, imbalance, sum(latencies) / count, count, 0.0)


async def _converse(
    client: aiohttp.ClientSession,
    url: str,
    session: Session,
    number: int,
    began_s: float,
    ttfts: list[float],
    latencies: list[float],
) -> None:
    """Each question after the answer before it, which is part of what is sent then."""
    await asyncio.sleep(session.at_s + began_s - time.monotonic())
    messages: list[dict[str, str]] = []
    known = 0
    for turn in session.turns:
        if not messages:
            whole = [words(block, BLOCK_TOKENS) for block in turn.prompt_blocks]
            said = "".join(whole) + words(number, turn.prompt % BLOCK_TOKENS)
        else:
            said = words(number * 1000 + len(messages), turn.prompt - known)
        messages.append({"role": "user", "content": said})
        body = {"model": MODEL, "messages": messages, "stream": True, "max_tokens": turn.answer, "ignore_eos": True}
        sent_s = time.monotonic()
        parts: list[bytes] = []
        async with client.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}) as answer:
            answer.raise_for_status()
            async for part in answer.content.iter_any():
                if not parts:
                    ttfts.append(time.monotonic() - sent_s)
                parts.append(part)
        latencies.append(time.monotonic() - sent_s)
        messages.append({"role": "assistant", "content": _said(b"".join(parts))})
        known = turn.prompt + turn.answer
        await asyncio.sleep(turn.then_s)


def _said(stream: bytes) -> str:
    found: list[str] = []
    for line in stream.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                found.append(choice["delta"].get("content") or "")
    return "".join(found)
