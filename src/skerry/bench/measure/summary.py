"""A run in numbers: rates, spreads of every metric, and which objectives it kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from skerry.bench.frame import FAULTS, Floats, Frame
from skerry.bench.measure.metrics import NAMES, Spread, spread, values_of
from skerry.bench.measure.slo import Objective


@dataclass(frozen=True)
class Kept:
    """Of one objective."""

    text: str
    value: float | None
    kept: bool
    share: float
    """Of the requests that keep to it each by itself."""


@dataclass(frozen=True)
class Summary:
    seconds: float
    requests: int
    failed: int
    faults: dict[str, int]
    says: dict[str, int]
    """What the commonest failures said."""
    rates: dict[str, float]
    """requests_per_second, input_/output_/total_tokens_per_second, error_rate, goodput (requests per second that keep
    all objectives), goodput_share, concurrency_mean, concurrency_max, cached_share, fairness, users (where the data
    says who asks), counted_share (of answers whose tokens the server counted)."""
    metrics: dict[str, Spread]
    objectives: tuple[Kept, ...] = ()
    scenarios: dict[str, Summary] = field(default_factory=dict[str, "Summary"])
    server: dict[str, dict[str, float] | float] = field(default_factory=dict[str, "dict[str, float] | float"])
    """What it said of itself: mean and maximum of running, waiting, kv_use, and of GPUs."""


def summarize(frame: Frame, objectives: Sequence[Objective] = (), *, parts: bool = True) -> Summary:
    """Rates count from the first that was sent to the last that ended."""
    if not len(frame):
        return Summary(0.0, 0, 0, {}, {}, {}, {})
    seconds = float(frame["ended_s"].max() - frame["sent_s"].min())
    rates = _rates(frame, seconds)
    keeping = frame.ok
    for each in objectives:
        keeping = keeping & each.kept_by(frame)
    rates["goodput"] = float(keeping.sum()) / seconds if seconds else 0.0
    rates["goodput_share"] = float(keeping.mean())
    metrics = {name: found for name in NAMES if (found := spread(values_of(name, frame))) is not None}
    names = [name for name in frame.scenarios if name]
    return Summary(
        seconds,
        len(frame),
        int((~frame.ok).sum()),
        {str(fault): count for at, fault in enumerate(FAULTS) if (count := int((frame.faults == at).sum()))},
        dict(Counter(frame.says.values()).most_common(5)),
        rates,
        metrics,
        tuple(_kept(each, frame, rates) for each in objectives),
        {name: summarize(frame.of_scenario(name), objectives, parts=False) for name in sorted(names)}
        if parts and len(names) > 1
        else {},
    )


def _rates(frame: Frame, seconds: float) -> dict[str, float]:
    ok = frame.ok
    inputs, outputs = int(frame["input_tokens"][ok].sum()), int(frame["output_tokens"][ok].sum())
    per_s = 1 / seconds if seconds else 0.0
    return {
        "requests_per_second": float(ok.sum()) * per_s,
        "input_tokens_per_second": inputs * per_s,
        "output_tokens_per_second": outputs * per_s,
        "total_tokens_per_second": (inputs + outputs) * per_s,
        "error_rate": 1 - float(ok.mean()),
        "concurrency_mean": float((frame["ended_s"] - frame["sent_s"]).sum()) * per_s,
        "concurrency_max": float(at_once(frame)[1].max()),
        "cached_share": int(frame["cached_tokens"][ok].sum()) / inputs if inputs else 0.0,
        **_fairness(frame),
        **({"counted_share": float(frame["counted"][ok].mean())} if outputs else {}),
    }


def at_once(frame: Frame) -> tuple[Floats, Floats]:
    """Moments, and how many requests were under way from each on."""
    moments = np.concatenate((frame["sent_s"], frame["ended_s"]))
    steps = np.repeat([1.0, -1.0], len(frame))
    order = np.lexsort((steps, moments))
    return moments[order], np.cumsum(steps[order])


def _fairness(frame: Frame) -> dict[str, float]:
    """Jain's index over tokens per second of waiting: 1 all alike, 1/n one has it all (Jain, Chiu, Hawe, DEC-TR-301,
    1984). Of users where the data says who asks, and then one who had nothing counts too; else of conversations."""
    users = len(np.unique(frame.user)) if any(frame.users) else 0
    rows = frame if users else frame.take(frame.ok)
    _, who = np.unique(rows.user if users else rows["session"], return_inverse=True)
    seconds = np.bincount(who, rows["ended_s"] - rows["sent_s"])
    tokens = np.bincount(who, np.where(rows.ok, rows["output_tokens"], 0))
    shares = tokens[seconds > 0] / seconds[seconds > 0]
    found = float(shares.sum() ** 2 / (len(shares) * (shares**2).sum())) if shares.any() else 1.0
    return {"fairness": found, "users": float(users)} if users else {"fairness": found}


def _kept(objective: Objective, frame: Frame, rates: dict[str, float]) -> Kept:
    share = float(objective.kept_by(frame).mean())
    return Kept(objective.text, objective.of(frame, rates), objective.is_kept(frame, rates), share)
