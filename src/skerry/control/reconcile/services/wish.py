"""How many replicas a service should have, and why: from what was seen of its traffic. Pure: the same history at the
same time, the same wish.

There are more as soon as the mean over `window` asks for them, at once where many times what is there is wanted over
the short window, or will be by those who come now (panic), and fewer only when nothing of `down_after` asked for more,
half of them at a time. Windows and panic are those that the public autoscalers share (Knative, AIBrix, Ray Serve); who
comes, the halves and the explanation are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from skerry.control.reconcile.services.asked import Asked, Memory
from skerry.control.reconcile.services.demand import EPSILON, Demand, ahead, demand, rush, served_s, unknown
from skerry.model.scaling import DAYS, Scaling, Schedule

DOWN_STARTS = 6
"""Replicas are kept for so many times as long as a new one takes to start: the slower that is, the more is lost by one
that went too soon."""
DOWN_S, DOWN_S_MIN, DOWN_S_MAX = 300.0, 60.0, 900.0
"""The first where nobody knows how long a start takes."""


@dataclass(frozen=True)
class Wish:
    replicas: int
    say: str
    memory: Memory
    unknown: str | None = None
    """Of which targets nothing is known, and why: there are never fewer because of that."""


def wish(asked: Asked) -> Wish:
    scaling, now_s = asked.scaling, asked.now.timestamp()
    low, high, scheduled = bounds(scaling, asked.now)
    if asked.current == 0 and low == 0 and not _is_wanted(asked, now_s):
        return Wish(0, "nobody has asked for it", Memory(served_s=asked.memory.served_s))
    if low == 0 and asked.current and (idle := _idle(asked, now_s)) is not None:
        return Wish(0, idle, Memory(served_s=asked.memory.served_s))
    stable, panic_until_s, short = _wanted(asked, now_s)
    raw, say = _rounded(stable.replicas, asked.current, scaling.tolerance), stable.say
    down_after_s = _down_after_s(asked)
    kept = tuple(each for each in asked.memory.wishes if each[0] > now_s - down_after_s)
    # What panic wanted is not remembered: it counts those who wait for replicas that start, and they are soon served.
    before = asked.memory
    ready_since_s = before.ready_since_s if before.ready in (None, asked.ready) else now_s
    memory = Memory((*kept, (now_s, raw)), panic_until_s, served_s(asked), asked.ready, ready_since_s)
    if now_s < panic_until_s:
        raw = max(raw, asked.current, _rounded(short.replicas, asked.current, scaling.tolerance))
        say = f"panic: {short.say}"
    blind = unknown(asked)
    if blind is not None and raw < asked.current:
        raw, say = asked.current, blind
    chosen = raw
    if raw > asked.current > 0:
        chosen, say = _more(asked, raw, say)
    elif raw < asked.current == max(low, 1):
        chosen, say = asked.current, f"{say}; {asked.current} is the least" + (f" ({scheduled})" if scheduled else "")
    elif raw < asked.current:
        chosen, say = _fewer(asked, memory, raw, say, down_after_s)
        if chosen < asked.current:  # the rest is kept as long again
            memory = replace(memory, wishes=((now_s, chosen),))
    bounded = min(max(chosen, low, 1), max(high, low, 1) if low or chosen else max(high, 1))
    if bounded != chosen:
        edge = "least" if bounded > chosen else "most"
        say = f"{say}; {bounded} is the {edge}" + (f" ({scheduled})" if scheduled else "")
    known_since_s = now_s - asked.since_s
    return Wish(bounded, say, memory, blind if known_since_s >= scaling.window else None)


def _wanted(asked: Asked, now_s: float) -> tuple[Demand, float, Demand]:
    """(over the window, until when there is panic, over the short window)."""
    scaling = asked.scaling
    stable, short = demand(asked, scaling.window), demand(asked, scaling.panic_window)
    if scaling.predict and (trend := ahead(asked)) is not None and trend.replicas > stable.replicas:
        stable = trend
    if (coming := rush(asked)) is not None and coming.replicas > short.replicas:
        short = coming
    if short.replicas >= scaling.panic_at * max(1, asked.ready):
        return stable, now_s + scaling.window, short
    return stable, asked.memory.panic_until_s, short


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


def _rounded(wanted: float, current: int, tolerance: float) -> int:
    if current and abs(wanted - current) <= tolerance * current + EPSILON:
        return current
    return math.ceil(wanted - EPSILON)


def _more(asked: Asked, raw: int, say: str) -> tuple[int, str]:
    most = max(asked.current + 1, math.floor(asked.current * asked.scaling.up_at_most + EPSILON))
    return (raw, say) if raw <= most else (most, f"{say}; at most {most} in one step")


def _fewer(asked: Asked, memory: Memory, raw: int, say: str, down_after_s: float) -> tuple[int, str]:
    """The largest wish of the time decides; as long as not all of that time is known, it stays."""
    if asked.now.timestamp() - asked.since_s < down_after_s:
        return asked.current, f"{say}; fewer only when {down_after_s:g} s are known"
    most = max(count for _, count in memory.wishes)
    if most > raw:
        raw, say = most, f"{say}; more was wanted within {down_after_s:g} s"
    half = math.ceil(asked.current / 2)
    return (min(raw, asked.current), say) if raw >= half else (half, f"{say}; at most half of them go at once")


def _down_after_s(asked: Asked) -> float:
    if asked.scaling.down_after is not None:
        return asked.scaling.down_after
    if asked.start_s is None:
        return DOWN_S
    return round(min(max(DOWN_STARTS * asked.start_s, DOWN_S_MIN), DOWN_S_MAX))
