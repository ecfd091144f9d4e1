"""The metrics of one request, and of many.

Definitions (Huang, "LLM inference benchmarking", 2025, and what vLLM, guidellm and AIPerf agree on):
TTFT = first token - start; TPOT = (E2E - TTFT) / (output tokens - 1); ITL = each gap between events that bring tokens;
NTPOT = E2E / output tokens; E2E = end - start; input throughput = input tokens / TTFT; output throughput = (output
tokens - 1) / (E2E - TTFT). Start is when the request was sent; those with `intended_` count from when it should have
been, which is what its user felt (Tene, "How NOT to measure latency": coordinated omission).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from skerry.bench.frame import TICK_S, Floats, Frame, Mask

AT_ONCE = 8192
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)

NAMES = {
    "ttft": "seconds to the first token",
    "ttfct": "seconds to the first token of content, reasoning not counted",
    "tpot": "seconds per token after the first",
    "itl": "seconds between two events with tokens",
    "ntpot": "seconds per token, all of the request over all of its tokens",
    "e2e": "seconds to the end",
    "output_latency": "seconds from the first token to the end",
    "intended_ttft": "seconds to the first token since it should have been sent",
    "intended_e2e": "seconds to the end since it should have been sent",
    "drift": "seconds it was sent later than it should have been",
    "input_tokens": "tokens of the prompt",
    "output_tokens": "tokens of the answer",
    "cached_tokens": "tokens of the prompt that the server had computed before",
    "input_throughput": "tokens of the prompt per second of time to the first token",
    "output_throughput": "tokens per second while it was answered",
}
ALIASES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "inter_token_latency": "itl",
    "normalized_time_per_output_token": "ntpot",
    "request_latency": "e2e",
    "e2el": "e2e",
    "latency": "e2e",
}


def _since(frame: Frame, until: str, since: str) -> Floats:
    return frame[until] - frame[since]


def _where(has: Mask, values: Floats) -> Floats:
    return np.where(has, values, np.nan)


def _over(top: Floats, below: Floats) -> Floats:
    return np.divide(top, below, out=np.full(len(top), np.nan), where=below > 0)


def _streamed(frame: Frame) -> Mask:
    return frame["first_s"] > 0


ONE: Mapping[str, Callable[[Frame], Floats]] = {
    "ttft": lambda f: _where(_streamed(f), _since(f, "first_s", "sent_s")),
    "ttfct": lambda f: _where(f["first_content_s"] > 0, _since(f, "first_content_s", "sent_s")),
    "tpot": lambda f: _where(_streamed(f), _over(_since(f, "ended_s", "first_s"), f["output_tokens"] - 1.0)),
    "ntpot": lambda f: _over(_since(f, "ended_s", "sent_s"), f["output_tokens"]),
    "e2e": lambda f: _since(f, "ended_s", "sent_s"),
    "output_latency": lambda f: _where(_streamed(f), _since(f, "ended_s", "first_s")),
    "intended_ttft": lambda f: _where(_streamed(f), _since(f, "first_s", "intended_s")),
    "intended_e2e": lambda f: _since(f, "ended_s", "intended_s"),
    "input_tokens": lambda f: f["input_tokens"].astype(np.float64),
    "output_tokens": lambda f: f["output_tokens"].astype(np.float64),
    "cached_tokens": lambda f: f["cached_tokens"].astype(np.float64),
    "input_throughput": lambda f: _where(_streamed(f), _over(f["input_tokens"], _since(f, "first_s", "sent_s"))),
    "output_throughput": lambda f: _where(
        _streamed(f) & (f["output_tokens"] > 1), _over(f["output_tokens"] - 1.0, _since(f, "ended_s", "first_s"))
    ),
}
"""Of each request; not a number where it has none."""


@dataclass(frozen=True)
class Spread:
    """Of one metric. All of it is nothing where nothing was measured."""

    count: int
    mean: float
    std: float
    min: float
    max: float
    percentiles: dict[str, float]
    """`p50` and so on."""


def spread(values: Floats) -> Spread | None:
    """`values` are put into another order."""
    if not values.size:
        return None
    mean = float(values.mean(dtype=np.float64))
    deviation = _deviation(values, mean)
    least, most = float(values.min()), float(values.max())
    found = np.percentile(values, PERCENTILES, overwrite_input=True).tolist()
    percentiles = {f"p{each:g}": value for each, value in zip(PERCENTILES, found, strict=True)}
    return Spread(int(values.size), mean, deviation, least, most, percentiles)


def _deviation(values: Floats, mean: float) -> float:
    """Some at a time: numpy's own makes two arrays in double precision as long as all gaps of a run."""
    squares = 0.0
    for since in range(0, values.size, AT_ONCE):
        part = values[since : since + AT_ONCE].astype(np.float64) - mean
        squares += float(part @ part)
    return (squares / values.size) ** 0.5


def values_of(name: str, frame: Frame) -> Floats:
    """Of those that succeeded; of `drift` all. In no order that means anything."""
    if name == "drift":
        return _since(frame, "sent_s", "intended_s")
    if name == "itl":
        gaps, counts = _gaps(frame)
        if not frame.ok.all():
            counts &= np.repeat(frame.ok, np.diff(frame.ends))
        gaps[~counts] = np.nan
        gaps.sort()  # nothing goes last, so that what counts is had without a second array as large
        return gaps[: np.count_nonzero(counts)]
    found = ONE[name](frame)[frame.ok]
    return found[~np.isnan(found)]


def worst_gap(frame: Frame) -> Floats:
    """Of each request the longest between two events with tokens."""
    gaps, counts = _gaps(frame)
    gaps[~counts] = 0.0
    found = np.full(len(frame), np.nan)
    lengths = np.diff(frame.ends)
    if lengths.any():
        found[lengths > 0] = np.maximum.reduceat(gaps, frame.ends[:-1][lengths > 0])
    found[lengths < 2] = np.nan
    return found


def _gaps(frame: Frame) -> tuple[Floats, Mask]:
    """Before each event, and which of them count: all but the first of each request. In single precision, which is
    enough for microseconds of what lasts less than a minute, at half the memory of the largest array there is."""
    gaps = np.empty(len(frame.ticks), np.float32)
    np.subtract(frame.ticks[1:], frame.ticks[:-1], out=gaps[1:], dtype=np.float64, casting="same_kind")
    gaps *= np.float32(TICK_S)
    counts = np.ones(len(gaps), np.bool_)
    counts[frame.ends[:-1][np.diff(frame.ends) > 0]] = False
    return gaps, counts  # pyright: ignore[reportReturnType]


def in_window(frame: Frame, since_s: float, until_s: float) -> Frame:
    """Those that were meant to be sent in it: warm-up and cool-down go."""
    return frame.take((frame["intended_s"] >= since_s) & (frame["intended_s"] < until_s))
