"""A plan made into what a worker sends: its part of the conversations and of the times at which they begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from heapq import merge
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from skerry.bench.data.bodies import Form
from skerry.bench.data.contract import Conversation, Source
from skerry.bench.data.lengths import lengths
from skerry.bench.data.rows import PROMPTS, Log, Rows, ShareGpt
from skerry.bench.data.synthetic import Synthetic
from skerry.bench.data.text import Writer, writer
from skerry.bench.data.traces import Bailian, Lengths, Mooncake
from skerry.bench.load.schedule import Load
from skerry.bench.load.shapes import Shape, Stage, Wave, arrivals
from skerry.bench.plan import Arrival, Data, DataKind, LoadPlan, Plan
from skerry.errors import Invalid


def load(plan: Plan, worker: int = 0, workers: int = 1, write: Writer | None = None) -> Load:
    """Raises Invalid. Each worker makes all conversations and keeps every `workers`-th, so that how many there are
    changes nothing of what is sent."""
    mine = islice(_mixed(plan, write or writer(plan.tokenizer)), worker, None, workers)
    form = Form(plan.api, plan.model, plan.stream, plan.ignore_eos, plan.extra)
    wanted = plan.load
    requests_max = None if wanted.requests is None else _part(wanted.requests, worker, workers)
    in_flight_max = None if wanted.in_flight_max is None else _part(wanted.in_flight_max, worker, workers)
    if wanted.concurrency is not None:
        return Load(
            mine,
            form,
            users=_part(wanted.concurrency, worker, workers),
            ramp_s=wanted.ramp,
            until_s=wanted.duration,
            requests_max=requests_max,
        )
    if wanted.trace:
        at_rate = (_scaled(each, wanted.scale) for each in mine)
        until_s = wanted.duration
        return Load(at_rate, form, traced=True, in_flight_max=in_flight_max, until_s=until_s, requests_max=requests_max)
    starts_s = _starts(wanted, plan.seed)[worker::workers]
    return Load(mine, form, starts_s=starts_s.tolist(), in_flight_max=in_flight_max, requests_max=requests_max)


def _scaled(conversation: Conversation, scale: float) -> Conversation:
    """Raises Invalid where it has no time."""
    if conversation.turns[0].at_s is None:
        raise Invalid("load.trace: this data has no times", field="load.trace")
    turns = [replace(turn, at_s=None if turn.at_s is None else turn.at_s / scale) for turn in conversation.turns]
    return replace(conversation, turns=turns)


def _untimed(conversations: Iterator[Conversation]) -> Iterator[Conversation]:
    """For loads that have times of their own."""
    for each in conversations:
        if any(turn.at_s is not None for turn in each.turns):
            each = replace(each, turns=[replace(turn, at_s=None) for turn in each.turns])
        yield each


def _part(whole: int, worker: int, workers: int) -> int:
    return whole // workers + (worker < whole % workers)


def _starts(wanted: LoadPlan, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    stages = [Stage(step.duration, step.rate, step.rate if step.to is None else step.to) for step in wanted.steps]
    if wanted.rate is not None:
        seconds = wanted.duration
        if seconds is None:  # long enough for all that are asked for, however they fall
            count = wanted.requests or 1
            seconds = 2 * (count + 10 * count**0.5 + 10) / wanted.rate
        stages = [Stage(seconds, wanted.rate, wanted.rate)]
    wave = None if wanted.fluctuation is None else Wave(wanted.fluctuation.period, wanted.fluctuation.depth)
    burstiness = {Arrival.CONSTANT: None, Arrival.POISSON: 1.0, Arrival.GAMMA: wanted.burstiness}[wanted.arrival]
    found = arrivals(Shape(stages, wave), burstiness, np.random.default_rng((seed, 1)))
    return found if wanted.requests is None else found[: wanted.requests]


def _mixed(plan: Plan, write: Writer) -> Iterator[Conversation]:
    going = [_of(data, write, plan.seed + number, timed=plan.load.trace) for number, data in enumerate(plan.data)]
    if len(going) == 1:
        return going[0]
    return _merged(going) if plan.load.trace else _drawn(going, plan)


def _of(data: Data, write: Writer, seed: int, *, timed: bool) -> Iterator[Conversation]:
    made = source(data, write, seed)
    found = made.conversations()
    if data.repeat and not timed and data.kind is not DataKind.SYNTHETIC:
        found = chain.from_iterable(made.conversations() for _ in repeat(None))
    return islice(found if timed else _untimed(found), data.limit)


def _merged(going: list[Iterator[Conversation]]) -> Iterator[Conversation]:
    """Several traces at once."""
    return merge(*going, key=lambda each: each.turns[0].at_s or 0.0)


def _drawn(going: list[Iterator[Conversation]], plan: Plan) -> Iterator[Conversation]:
    weights = np.array([data.weight for data in plan.data])
    chance = np.random.default_rng((plan.seed, 2))
    while True:
        found = next(going[int(chance.choice(len(going), p=weights / weights.sum()))], None)
        if found is None:
            return
        yield found


def source(data: Data, write: Writer, seed: int) -> Source:
    """Raises Invalid."""
    path = Path(data.path or "")
    match data.kind:
        case DataKind.SYNTHETIC:
            return _synthetic(data, write, seed)
        case DataKind.JSONL | DataKind.CSV | DataKind.PARQUET | DataKind.ARROW | DataKind.HF:
            outputs = lengths(data.output_tokens, "data.output_tokens")(np.random.default_rng(seed))
            prompts = PROMPTS if data.prompt_column is None else (data.prompt_column,)
            return Rows(path, write, outputs, data.name, prompts)
        case DataKind.SHAREGPT:
            turns = lengths(data.turns, "data.turns")
            return ShareGpt(path, write, turns(np.random.default_rng(seed)), data.name)
        case DataKind.LOG:
            return Log(path, data.name)
        case DataKind.MOONCAKE:
            return Mooncake(path, write, data.name, seed)
        case DataKind.BAILIAN:
            return Bailian(path, write, data.name, seed)
        case DataKind.AZURE:
            return Lengths(path, write, data.name, seed)


def _synthetic(data: Data, write: Writer, seed: int) -> Synthetic:
    sizes = [tuple(map(int, size.split("x"))) for size in data.image_sizes]
    return Synthetic(
        write,
        lengths(data.input_tokens, "data.input_tokens"),
        lengths(data.output_tokens, "data.output_tokens"),
        lengths(data.turns, "data.turns"),
        think_s=data.think,
        prefix_tokens=data.prefix_tokens,
        prefix_groups=data.prefix_groups,
        zipf=data.zipf,
        pictures=[(width, height) for width, height in sizes],
        sound_s=None if data.sound is None else lengths(data.sound, "data.sound"),
        documents=None if data.documents is None else lengths(data.documents, "data.documents"),
        scenario=data.name,
        seed=seed,
    )
