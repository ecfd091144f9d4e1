"""How many replicas a trace needs under objectives: the simulated engine in the place of each, in time that is given.

A request goes to a replica that has its prefix, where that one is not much busier than the least busy; else to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from skerry.bench.contract import Fault, Record
from skerry.bench.data.text import Words
from skerry.bench.data.traces import Asked, Bailian, Lengths, Mooncake, Trace
from skerry.bench.frame import frame_of
from skerry.bench.measure.slo import Objective
from skerry.bench.measure.summary import Summary, summarize
from skerry.engines.simulator.core import Engine
from skerry.engines.simulator.profile import BLOCK_TOKENS, Profile
from skerry.engines.simulator.work import Work
from skerry.errors import Invalid

BUSIER = 8
"""Requests that a replica with the prefix may have more than the least busy."""
FOREVER_S = 1e9
KINDS = {"mooncake": Mooncake, "bailian": Bailian, "azure": Lengths}


@dataclass(frozen=True)
class Load:
    asked: Sequence[Asked]
    block: int

    @property
    def seconds(self) -> float:
        return self.asked[-1].at_s if self.asked else 0.0


@dataclass(frozen=True)
class Found:
    replicas: int
    kept: bool
    summary: Summary
    tried: dict[int, bool]


def read(file: dict[str, Any], speed: float, limit: int | None) -> Load:
    """Raises Invalid."""
    kind = KINDS.get(file["kind"])
    if kind is None:
        raise Invalid(
            f"data: {file['kind']} has no times and lengths; give mooncake:, bailian: or azure:", field="data"
        )
    trace: Trace = kind(Path(file["path"]), Words())
    asked = [replace(each, at_s=each.at_s / speed) for each in islice(trace.asked(), limit)]
    if not asked:
        raise Invalid("data: the trace is empty", field="data")
    return Load(sorted(asked, key=lambda each: each.at_s), trace.block)


def replicas(load: Load, objectives: Sequence[Objective], most: int, slowness: float = 1.0) -> Found:
    """The least number that keeps them, or `most`, where that does not: doubled, and then halved between. What is
    larger than the model fails with any number, and is told apart."""
    tried: dict[int, Summary] = {}

    def kept(count: int) -> bool:
        tried[count] = summarize(frame_of(play(load, count, slowness)), objectives)
        return all(each.kept for each in tried[count].objectives)

    too_few, enough = 0, 1
    while not kept(enough):
        if enough >= most:
            return Found(enough, False, tried[enough], dict.fromkeys(tried, False))
        too_few, enough = enough, min(enough * 2, most)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if kept(middle):
            enough = middle
        else:
            too_few = middle
    return Found(enough, True, tried[enough], {n: n >= enough for n in sorted(tried)})


def play(load: Load, count: int, slowness: float) -> Iterator[Record]:
    """What becomes of each request with so many replicas."""
    engines = [Engine(Profile(slowness=slowness)) for _ in range(count)]
    whose: dict[int, int] = {}
    works: list[Work | None] = []
    for number, asked in enumerate(load.asked):
        for engine in engines:
            engine.advance(asked.at_s)
        hashes = _hashes(asked, load.block)
        at = _route(engines, hashes, whose)
        work = Work(str(number), asked.tokens, asked.output_tokens, hashes)
        try:
            engines[at].submit(work, asked.at_s)
        except Invalid:  # larger than the model
            works.append(None)
            continue
        works.append(work)
        for each in hashes[:: max(1, load.block // BLOCK_TOKENS)]:
            whose[each] = at
    for engine in engines:
        engine.advance(FOREVER_S)
    for number, (asked, work) in enumerate(zip(load.asked, works, strict=True)):
        yield _record(number, asked, work)


def _route(engines: Sequence[Engine], hashes: Sequence[int], whose: dict[int, int]) -> int:
    busy = [engine.running + engine.waiting for engine in engines]
    least = min(range(len(engines)), key=lambda at: (busy[at], engines[at].prefill_tokens))
    found = next((whose[each] for each in reversed(hashes) if each in whose), None)
    return found if found is not None and busy[found] <= busy[least] + BUSIER else least


def _hashes(asked: Asked, block: int) -> list[int]:
    """Of the engine's smaller blocks, each with all before it."""
    found: list[int] = []
    before = 0
    parts = block // BLOCK_TOKENS
    for id in asked.ids:
        for part in range(parts):
            before = hash((before, id, part))
            found.append(before)
    return found[: asked.tokens // BLOCK_TOKENS]


def _record(number: int, asked: Asked, work: Work | None) -> Record:
    record = Record(number, intended_s=asked.at_s, sent_s=asked.at_s, input_tokens=asked.tokens)
    if work is None or work.ended_s < 0:
        record.fault, record.say, record.ended_s = Fault.STATUS, "it is larger than the model allows", asked.at_s
        return record
    record.first_s = record.first_content_s = work.first_s
    record.last_s = record.ended_s = work.ended_s
    record.output_tokens, record.cached_tokens = work.made, work.cached
    return record


def document(load: Load, found: Found, cost_per_hour: float | None) -> dict[str, Any]:
    tokens = sum(each.tokens + each.output_tokens for each in load.asked)
    told: dict[str, Any] = {"replicas": found.replicas, "kept": found.kept, "requests": len(load.asked)}
    told |= {"seconds": load.seconds, "tried": found.tried, "summary": asdict(found.summary)}
    if cost_per_hour is not None and tokens:
        spent = cost_per_hour * found.replicas * found.summary.seconds / 3600
        told |= {"cost": spent, "cost_per_million_tokens": spent / tokens * 1e6}
    return told
