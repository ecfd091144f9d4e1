"""How many replicas each target asks for, over a window. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.control.reconcile.services.asked import Asked, Moment
from skerry.model.scaling import OF_MACHINES, Signal, Target

EPSILON = 1e-9
READ = frozenset({Signal.CACHE, Signal.CUSTOM, *OF_MACHINES})
"""What is read of replicas: where it is not known, that says nothing about whether fewer would do."""

START_S = 10.0
"""How far `predict` looks ahead where nobody knows how long a replica takes to start."""
RUSH_PARTS = (1 / 3, 2 / 3, 1)
"""Of the window: many who come at once show in a short one before they show in the whole."""
ENDED_MIN = 10
"""Requests in a window that say how long one takes."""
SMOOTHING = 0.1
"""Of one look a second: ten seconds' worth of them counts most."""


@dataclass(frozen=True)
class Demand:
    replicas: float
    say: str


def demand(asked: Asked, window_s: float) -> Demand:
    """Of the target that wants most; where nothing is known of any, as many as there are."""
    found = [_of(target, asked, window_s) for target in asked.scaling.targets]
    known = [each for each in found if each is not None]
    return max(known, key=lambda each: each.replicas) if known else Demand(asked.current, "its targets are not known")


def unknown(asked: Asked) -> str | None:
    """Of which targets nothing is known though there are replicas that serve, and why."""
    if not asked.ready:
        return None
    told = [
        f"{target.key} is not known: {asked.unseen.get(target.key, _why(target))}"
        for target in asked.scaling.targets
        if target.signal in READ and _mean(asked, target.key, asked.scaling.window) is None
    ]
    return "; ".join(told) or None


def _why(target: Target) -> str:
    if target.signal in OF_MACHINES:
        return "the machine of its replicas does not tell"
    return "no replica tells it where its engine has its metrics"


def _of(target: Target, asked: Asked, window_s: float) -> Demand | None:
    """None: nothing is known."""
    recent = _recent(asked, window_s)
    seconds = min(window_s, asked.now.timestamp() - asked.since_s)
    if seconds <= 0:
        return None
    match target.signal:
        case Signal.IN_FLIGHT:
            total = sum((each.in_flight + each.waiting) * each.seconds for each in recent) / seconds
        case Signal.QUEUE:
            total = sum(each.waiting * each.seconds for each in recent) / seconds
            total += _mean(asked, target.key, window_s) or 0.0
        case Signal.TOKENS:
            total = sum(each.tokens for each in recent) / seconds
        case Signal.TTFT | Signal.TPOT:
            return _objective(target, asked, recent)
        case _:
            mean = _mean(asked, target.key, window_s)
            if mean is None:
                return None
            total = mean
    said = f"{target.key} is {total:.3g} over {window_s:g} s, {target.value:g} for each"
    return Demand(total / target.value, said)


def _objective(target: Target, asked: Asked, recent: Sequence[Moment]) -> Demand | None:
    memory, is_ttft = asked.memory, target.signal is Signal.TTFT
    if memory.ready not in (None, asked.ready):
        return None
    if asked.now.timestamp() - memory.ready_since_s < asked.scaling.panic_window:
        return None  # what was too slow with fewer says nothing of as many as there are now
    recent = [each for each in recent if each.at_s > memory.ready_since_s]
    samples = sorted(one for each in recent for one in (each.ttft_s if is_ttft else each.tpot_s))
    if not samples:
        asks = any(each.in_flight or each.waiting or each.requests for each in recent)
        return None if asks or not recent else Demand(0.0, "nobody asks")
    p95 = samples[min(len(samples) - 1, int(len(samples) * 0.95))]
    said = f"{target.key} is {p95:.3g} s where {target.value:g} s is the objective"
    return Demand(max(1, asked.ready) * p95 / target.value, said)


def _recent(asked: Asked, window_s: float) -> list[Moment]:
    since_s = asked.now.timestamp() - window_s
    return [each for each in asked.history if each.at_s > since_s]


def _mean(asked: Asked, key: str, window_s: float) -> float | None:
    """Over time, of what all replicas have together."""
    since_s = asked.now.timestamp() - window_s
    told = [each.total for each in asked.seen if each.key == key and each.at_s > since_s]
    return sum(told) / len(told) if told else None


def rush(asked: Asked) -> Demand | None:
    """What will be in flight if they go on to come as they did lately, and are served as fast as while nobody waits:
    known some seconds before so many are in flight. Or, if that is more, who will be there when a replica that is begun
    now is ready: who comes until then and cannot be served waits for it. None: it is not known, or not scaled by that.
    """
    per_replica, took_s = _per_replica(asked), asked.memory.served_s
    known_s = asked.now.timestamp() - asked.since_s
    if per_replica is None or not took_s or known_s <= 0:  # served in no time, they never pile up
        return None
    rate = max(_rate(asked, min(asked.scaling.panic_window * part, known_s)) for part in RUSH_PARTS)
    said = f"at least {rate:.3g} requests come each second and take {took_s:.3g} s"
    start_s = START_S if asked.start_s is None else asked.start_s
    behind = _there(asked, known_s) + (rate - asked.ready * per_replica / took_s) * start_s
    expected = max(rate * took_s, behind)
    return Demand(expected / per_replica, f"{said}: {expected:.3g} will be in flight")


def _there(asked: Asked, known_s: float) -> float:
    """In flight or waiting in the shortest of the windows, over all gateways."""
    window_s = min(asked.scaling.panic_window * RUSH_PARTS[0], known_s)
    return sum((each.in_flight + each.waiting) * each.seconds for each in _recent(asked, window_s)) / window_s


def _rate(asked: Asked, window_s: float) -> float:
    """Less what chance alone may have brought."""
    count = sum(each.arrived for each in _recent(asked, window_s))
    return max(0.0, count - math.sqrt(count)) / window_s


def served_s(asked: Asked) -> float | None:
    """How long a request takes, by what was in flight and what ended over the window (Little's law), where that tells:
    there were enough, and no more than replicas should have. Else as it was known before."""
    per_replica, before = _per_replica(asked), asked.memory.served_s
    recent = _recent(asked, asked.scaling.window)
    ended = sum(each.requests for each in recent)
    busy = sum(each.in_flight * each.seconds for each in recent)
    seconds = sum(each.seconds for each in recent)
    waited = any(each.waiting for each in recent)
    if per_replica is None or ended < ENDED_MIN or waited or busy > per_replica * asked.ready * seconds:
        return before
    found = busy / ended
    return found if before is None else before + (found - before) * SMOOTHING


def _per_replica(asked: Asked) -> float | None:
    return next((each.value for each in asked.scaling.targets if each.signal is Signal.IN_FLIGHT), None)


def ahead(asked: Asked) -> Demand | None:
    """What the trend of the requests in flight wants when a replica that is begun now would be ready."""
    window_s = asked.scaling.window
    per_replica = _per_replica(asked)
    recent = _recent(asked, window_s)
    if per_replica is None or len(recent) < 3:
        return None
    times = [each.at_s - asked.now.timestamp() for each in recent]
    loads = [float(each.in_flight + each.waiting) for each in recent]
    mean_t, mean_l = sum(times) / len(times), sum(loads) / len(loads)
    spread = sum((each - mean_t) ** 2 for each in times)
    if spread <= EPSILON:
        return None
    slope = sum((at - mean_t) * (load - mean_l) for at, load in zip(times, loads, strict=True)) / spread
    gateways = max(1.0, sum(each.seconds for each in recent) / min(window_s, max(EPSILON, -times[0] + 1.0)))
    start_s = START_S if asked.start_s is None else asked.start_s
    expected = (mean_l + slope * (start_s - mean_t)) * gateways
    if slope <= 0:
        return None
    return Demand(expected / per_replica, f"in-flight will be {expected:.3g} in {start_s:.3g} s by its trend")
