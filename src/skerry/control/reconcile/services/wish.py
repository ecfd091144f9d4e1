"""How many replicas a service should have, and why: from what was seen of its traffic. Pure: the same history at the
same time, the same wish.

There are more as soon as the mean over `window` asks for them, at once where the short window asks for many times what
is there (panic), and fewer only when nothing of `down_after` asked for more. The rules are those that the public
autoscalers share (Knative, AIBrix, Ray Serve); the explanation is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from skerry.model.scaling import DAYS, Scaling, Schedule, Signal, Target

START_S = 10.0
"""How far `predict` looks ahead where nobody knows how long a replica takes to start."""
EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Moment:
    """Of one service, what one gateway told of the `seconds` before `at_s`."""

    at_s: float
    seconds: float
    in_flight: int
    waiting: int
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    ttft_s: tuple[float, ...] = ()
    tpot_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Memory:
    """What is remembered from one decision to the next."""

    wishes: tuple[tuple[float, int], ...] = ()
    """(when, how many) of the last `down_after`."""
    panic_until_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    scaling: Scaling
    history: Sequence[Moment]
    """Oldest first."""
    since_s: float
    """Nothing is known of the time before."""
    current: int
    """Wanted so far."""
    ready: int
    asked_s: float | None
    """When it last had a request."""
    held_s: float | None
    """When somebody was last held because there is no replica."""
    now: datetime
    start_s: float = START_S
    """How long a replica takes to become healthy."""
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True)
class Wish:
    replicas: int
    say: str
    memory: Memory


def wish(asked: Asked) -> Wish:
    scaling, now_s = asked.scaling, asked.now.timestamp()
    low, high, scheduled = bounds(scaling, asked.now)
    if asked.current == 0 and low == 0 and not _is_wanted(asked, now_s):
        return Wish(0, "nobody has asked for it", Memory())
    if low == 0 and asked.current and (idle := _idle(asked, now_s)) is not None:
        return Wish(0, idle, Memory())
    stable, say = _most(asked, scaling.window)
    short, said_short = _most(asked, scaling.panic_window)
    if scaling.predict and (ahead := _ahead(asked)) is not None and ahead[0] > stable:
        stable, say = ahead
    there = max(1, asked.ready)
    panic_until_s = asked.memory.panic_until_s
    if short >= scaling.panic_at * there:
        panic_until_s = now_s + scaling.window
    raw = _rounded(stable, asked.current, scaling.tolerance)
    if now_s < panic_until_s:
        raw, say = max(raw, asked.current, _rounded(short, asked.current, scaling.tolerance)), f"panic: {said_short}"
    if asked.current and raw > asked.current:
        most = max(asked.current + 1, math.floor(asked.current * scaling.up_at_most + EPSILON))
        if raw > most:
            raw, say = most, f"{say}; at most {most} in one step"
    kept = tuple(each for each in asked.memory.wishes if each[0] > now_s - scaling.down_after)
    memory = Memory((*kept, (now_s, raw)), panic_until_s)
    chosen = raw
    if raw < asked.current:
        chosen, say = _fewer(asked, memory, raw, say, now_s)
    bounded = min(max(chosen, low, 1), max(high, low, 1) if low or chosen else max(high, 1))
    if bounded != chosen:
        edge = "least" if bounded > chosen else "most"
        say = f"{say}; {bounded} is the {edge}" + (f" ({scheduled})" if scheduled else "")
    return Wish(bounded, say, memory)


def bounds(scaling: Scaling, now: datetime) -> tuple[int, int, str]:
    """(least, most, which schedule says so); of several that hold, the largest least and the smallest most."""
    held = [each for each in scaling.schedules if is_on(each, now)]
    lows = [each.minimum for each in held if each.minimum is not None]
    highs = [each.maximum for each in held if each.maximum is not None]
    low = max(lows) if lows else scaling.minimum
    high = min(highs) if highs else scaling.maximum
    named = ", ".join(f"{each.since} to {each.until} UTC" for each in held)
    return low, max(low, high), named


def is_on(schedule: Schedule, now: datetime) -> bool:
    clock, day = now.strftime("%H:%M"), now.weekday()
    if schedule.since <= schedule.until:
        return DAYS[day] in schedule.days and schedule.since <= clock < schedule.until
    if clock >= schedule.since:
        return DAYS[day] in schedule.days
    return clock < schedule.until and DAYS[day - 1] in schedule.days  # it began the day before


def _is_wanted(asked: Asked, now_s: float) -> bool:
    recent = [each for each in asked.history if each.at_s > now_s - asked.scaling.panic_window]
    busy = any(each.waiting or each.in_flight for each in recent)
    held = asked.held_s is not None and asked.held_s > now_s - asked.scaling.panic_window
    return busy or held


def _idle(asked: Asked, now_s: float) -> str | None:
    """Why it may go to zero; None: it may not. What is not known of is not taken for silence."""
    last_s = max(asked.since_s, asked.asked_s or 0.0)
    if now_s - last_s < asked.scaling.idle or _is_wanted(asked, now_s):
        return None
    return f"nobody has asked for it for {asked.scaling.idle:g} s"


def _most(asked: Asked, window_s: float) -> tuple[float, str]:
    """The target that wants most over a window."""
    found = [_of(target, asked, window_s) for target in asked.scaling.targets]
    known = [each for each in found if each is not None]
    return max(known, key=lambda each: each[0]) if known else (float(asked.current), "nothing is known of its targets")


def _of(target: Target, asked: Asked, window_s: float) -> tuple[float, str] | None:
    """(replicas, why). None: nothing is known."""
    now_s = asked.now.timestamp()
    seconds = min(window_s, now_s - asked.since_s)
    recent = [each for each in asked.history if each.at_s > now_s - window_s]
    if seconds <= 0:
        return None
    match target.signal:
        case Signal.IN_FLIGHT:
            total = sum((each.in_flight + each.waiting) * each.seconds for each in recent) / seconds
        case Signal.QUEUE:
            total = sum(each.waiting * each.seconds for each in recent) / seconds
        case Signal.TOKENS:
            total = sum(each.tokens for each in recent) / seconds
        case Signal.TTFT | Signal.TPOT:
            is_ttft = target.signal is Signal.TTFT
            samples = sorted(one for each in recent for one in (each.ttft_s if is_ttft else each.tpot_s))
            if not samples:
                return None
            p95 = samples[min(len(samples) - 1, int(len(samples) * 0.95))]
            said = f"{target.signal.value} is {p95:.3g} s where {target.value:g} s is the objective"
            return max(1, asked.ready) * p95 / target.value, said
        case _:
            return None
    said = f"{target.signal.value} is {total:.3g} over {window_s:g} s, {target.value:g} for each"
    return total / target.value, said


def _ahead(asked: Asked) -> tuple[float, str] | None:
    """What the trend of the requests in flight wants when a replica that is begun now would be ready."""
    now_s, window_s = asked.now.timestamp(), asked.scaling.window
    per_replica = next((each.value for each in asked.scaling.targets if each.signal is Signal.IN_FLIGHT), None)
    recent = [each for each in asked.history if each.at_s > now_s - window_s]
    if per_replica is None or len(recent) < 3:
        return None
    times = [each.at_s - now_s for each in recent]
    loads = [float(each.in_flight + each.waiting) for each in recent]
    mean_t, mean_l = sum(times) / len(times), sum(loads) / len(loads)
    spread = sum((each - mean_t) ** 2 for each in times)
    if spread <= EPSILON:
        return None
    slope = sum((at - mean_t) * (load - mean_l) for at, load in zip(times, loads, strict=True)) / spread
    gateways = max(1.0, sum(each.seconds for each in recent) / min(window_s, max(EPSILON, -times[0] + 1.0)))
    expected = (mean_l + slope * (asked.start_s - mean_t)) * gateways
    if slope <= 0:
        return None
    return expected / per_replica, f"in-flight will be {expected:.3g} in {asked.start_s:g} s by its trend"


def _rounded(wanted: float, current: int, tolerance: float) -> int:
    if current and abs(wanted - current) <= tolerance * current + EPSILON:
        return current
    return math.ceil(wanted - EPSILON)


def _fewer(asked: Asked, memory: Memory, raw: int, say: str, now_s: float) -> tuple[int, str]:
    """The largest wish of the time decides; as long as not all of that time is known, it stays."""
    scaling = asked.scaling
    if now_s - asked.since_s < scaling.down_after:
        return asked.current, f"{say}; fewer only when {scaling.down_after:g} s are known"
    most = max(count for _, count in memory.wishes)
    if most > raw:
        return min(most, asked.current), f"{say}; more was wanted within {scaling.down_after:g} s"
    return raw, say
