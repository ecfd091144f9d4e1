"""How many replicas a service has while traffic comes in bursts, in waves and seldom, and what that costs its callers.

Ours (control's own rule, `wish`) beside fixed fleets and a rule like Kubernetes' HorizontalPodAutoscaler, over the
same requests to the same simulated engines in simulated time: load on this machine changes nothing. A replica is paid
for from when it is begun until it is gone; it answers `--start` seconds later, or `--wake` where a stopped one is kept.
Each row is over all seeds; `cold` are requests that came when nobody could answer. It takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from skerry.control.reconcile.services.asked import Asked, Memory, Moment
from skerry.control.reconcile.services.wish import wish
from skerry.engines.simulator.core import Engine
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.work import Output, Work
from skerry.gateway.services.service import AHEAD
from skerry.model.scaling import Scaling

REPLICA: Final = Profile(blocks=5_700, sequences=64, batch_tokens=2048, slowness=6.0)
"""An 8B model in 8 bits on one L4: at 16 requests in flight about 1.5 a second of those below."""
AT_ONCE: Final = math.ceil(REPLICA.sequences * AHEAD)
"""As a gateway gives it where it knows the engine's options."""
PER_REPLICA, MOST = 16, 8
PROMPT, ANSWER = 1_000, 200
"""Tokens of a request, in the mean."""
LONG_S: Final = 2_400.0
HPA_EVERY_S, HPA_DOWN_S, HPA_TOLERANCE = 15, 300, 0.1
"""Its defaults; up it at most doubles, or adds four, in each step."""
HISTORY_S = 120.0
BEGAN_S: Final = datetime(2026, 1, 5, tzinfo=UTC).timestamp()


def arrivals(rate: Callable[[float], float], most: float, seed: int) -> Iterator[float]:
    """A Poisson process of a rate that changes."""
    draw, at_s = random.Random(seed), 0.0
    while (at_s := at_s + draw.expovariate(most)) < LONG_S:
        if draw.random() * most < rate(at_s):
            yield at_s


def storms(seed: int) -> Callable[[float], float]:
    """Of any length and strength, whenever they like."""
    draw, spans, at_s = random.Random(seed), list[tuple[float, float, float]](), 0.0
    while at_s < LONG_S:
        at_s += draw.expovariate(1 / 220)
        spans.append((at_s, at_s + draw.uniform(15, 150), draw.uniform(2, 8)))
    return lambda at_s: max([1.0, *(rate for since, until, rate in spans if since <= at_s < until)])


TRACES: Final[dict[str, tuple[Callable[[float], float], float]]] = {
    "bursts": (lambda at_s: 8.0 if at_s % 400 >= 340 else 1.0, 8.0),  # a minute in each seven, at once
    "spaced": (lambda at_s: 8.0 if at_s % 600 >= 540 else 1.0, 8.0),  # in each ten
    "storms": (storms(7), 8.0),
    "steps": (lambda at_s: (1.0, 3.0, 6.0, 2.0, 8.0, 4.0)[int(at_s // 400) % 6], 8.0),
    "waves": (lambda at_s: 4.5 - 4.0 * math.cos(at_s / 1200 * 2 * math.pi), 8.5),
    "seldom": (lambda at_s: 1.0 if at_s % 600 < 30 else 0.0, 1.0),  # half a minute in each ten
}
"""Requests a second at a moment, and at most."""


@dataclass(eq=False)
class Replica:
    engine: Engine
    began_s: float
    ready_s: float
    drains: bool = False

    @property
    def in_flight(self) -> int:
        return self.engine.running + self.engine.waiting


@dataclass
class Fleet:
    start_s: float
    wake_s: float
    per_replica: int | None = None
    """Given to each at once; more are held. None: no limit."""
    replicas: list[Replica] = field(default_factory=list[Replica])
    held: list[Work] = field(default_factory=list[Work])
    arrived: dict[str, float] = field(default_factory=dict[str, float])
    cold: set[str] = field(default_factory=set[str])
    """Requests that came when nobody could answer."""
    ttft_s: dict[str, float] = field(default_factory=dict[str, float])
    fresh: list[float] = field(default_factory=list[float])
    """Times to first tokens since the last look."""
    ended: int = 0
    """Likewise."""
    paid_s: float = 0.0
    most: int = 0
    starts: int = 0
    stopped: bool = False
    """One is kept, as at zero."""

    def wanted(self, count: int, now_s: float) -> None:
        live = [each for each in self.replicas if not each.drains]
        for _ in range(len(live), count):
            parked, self.stopped = self.stopped, False
            ready_s = now_s + (self.wake_s if parked else self.start_s)
            self.replicas.append(Replica(Engine(REPLICA), now_s, ready_s))
            self.starts += 1
        for each in sorted(live, key=lambda one: (-one.ready_s, one.in_flight))[: max(0, len(live) - count)]:
            each.drains = True
        self.stopped = self.stopped or (count == 0 and bool(live))
        self.most = max(self.most, len(self.replicas))

    def ready(self, now_s: float) -> list[Replica]:
        return [each for each in self.replicas if each.ready_s <= now_s and not each.drains]

    @property
    def in_flight(self) -> int:
        return sum(each.in_flight for each in self.replicas)

    def ask(self, work: Work, now_s: float) -> None:
        self.arrived[work.id] = now_s
        if not self.ready(now_s):
            self.cold.add(work.id)
        self.held.append(work)

    def go(self, now_s: float) -> None:
        """Until now; who is held goes to those that can answer, to the least loaded."""
        for each in self.replicas:
            self._hear(each.engine.advance(now_s))
        for each in [one for one in self.replicas if one.drains and not one.in_flight]:
            self.replicas.remove(each)
            self.paid_s += now_s - each.began_s
        ready = self.ready(now_s)
        while ready and self.held:
            least = min(ready, key=lambda one: one.in_flight)
            if self.per_replica is not None and least.in_flight >= self.per_replica:
                break
            least.engine.submit(self.held.pop(0), now_s)

    def _hear(self, out: list[Output]) -> None:
        self.ended += sum(each.ended for each in out)
        for each in out:
            if each.work.id not in self.ttft_s:
                self.ttft_s[each.work.id] = each.work.first_s - self.arrived[each.work.id]
                self.fresh.append(self.ttft_s[each.work.id])


class Look(NamedTuple):
    """What a rule sees each second."""

    now_s: float
    current: int
    ready: int
    moment: Moment
    asked_s: float | None


Rule = Callable[[Look], int]


def fixed(count: int) -> Rule:
    return lambda look: count


def hpa(least: int) -> Rule:
    wishes: deque[tuple[float, int]] = deque()

    def rule(look: Look) -> int:
        if look.now_s % HPA_EVERY_S or not look.ready:
            return max(look.current, least)
        share = (look.moment.in_flight + look.moment.waiting) / look.ready / PER_REPLICA
        asked = look.current if abs(share - 1) <= HPA_TOLERANCE else math.ceil(look.ready * share)
        asked = min(asked, max(2 * look.current, look.current + 4))
        wishes.append((look.now_s, asked))
        while wishes[0][0] < look.now_s - HPA_DOWN_S:
            wishes.popleft()
        if asked < look.current:  # the largest of the time decides; what is not known is not taken for little
            asked = min(look.current, max(count for _, count in wishes)) if look.now_s >= HPA_DOWN_S else look.current
        return min(max(asked, least), MOST)

    return rule


def ours(scaling: Scaling, start_s: float) -> Rule:
    history: deque[Moment] = deque()
    memory = Memory()

    def rule(look: Look) -> int:
        nonlocal memory
        history.append(look.moment)
        while history[0].at_s < look.moment.at_s - HISTORY_S:
            history.popleft()
        found = wish(
            Asked(
                scaling=scaling, history=history, since_s=BEGAN_S, current=look.current, ready=look.ready,
                asked_s=None if look.asked_s is None else BEGAN_S + look.asked_s,
                held_s=look.moment.at_s if look.moment.waiting and not look.ready else None,
                now=datetime.fromtimestamp(look.moment.at_s, UTC), memory=memory, start_s=start_s,
            )
        )  # fmt: skip
        memory = found.memory
        return found.replicas

    return rule


def rules(least: int, start_s: float) -> dict[str, Rule]:
    scaling: dict[str, Any] = {
        "minimum": least,
        "maximum": MOST,
        "targets": [{"signal": "in-flight", "value": PER_REPLICA}],
    }
    return {
        "fixed-2": fixed(2),
        "fixed-8": fixed(MOST),
        "hpa": hpa(1),
        "ours": ours(Scaling.model_validate(scaling), start_s),
        "predict": ours(Scaling.model_validate({**scaling, "predict": True}), start_s),
    }


def run(
    trace: str, rule: Rule, first: int, seed: int, start_s: float, wake_s: float, per_replica: int | None = None
) -> Fleet:
    """A request that finds nobody lets the rule look at once, as a gateway's word does; else it looks each second."""
    draw = random.Random(seed)
    rate, most = TRACES[trace]
    coming = deque(arrivals(rate, most, seed))
    fleet = Fleet(start_s, wake_s, per_replica)
    fleet.wanted(first, -start_s)
    fleet.paid_s -= first * start_s  # what stands at the beginning stood there before
    current, asked_s, count, second = first, None, 0, 0
    while second < LONG_S or fleet.held or fleet.in_flight:
        second += 1
        seen = 0
        while coming and coming[0] <= second:
            asked_s = coming.popleft()
            fleet.go(asked_s)
            prompt, answer = (max(1, int(draw.lognormvariate(math.log(mean), 0.4))) for mean in (PROMPT, ANSWER))
            fleet.ask(Work(str(count), prompt, answer), asked_s)
            fleet.go(asked_s)
            count, seen = count + 1, seen + 1
            if not current:
                current = rule(_look(fleet, asked_s, current, seen, asked_s))
                fleet.wanted(current, asked_s)
        fleet.go(second)
        current = rule(_look(fleet, float(second), current, seen, asked_s))
        fleet.wanted(current, second)
    fleet.paid_s += sum(second - each.began_s for each in fleet.replicas)
    return fleet


def _look(fleet: Fleet, now_s: float, current: int, arrived: int, asked_s: float | None) -> Look:
    fresh, fleet.fresh = tuple(fleet.fresh), []
    ended, fleet.ended = fleet.ended, 0
    moment = Moment(
        BEGAN_S + now_s, 1.0, fleet.in_flight, len(fleet.held), arrived=arrived, requests=ended, ttft_s=fresh
    )
    return Look(now_s, current, len(fleet.ready(now_s)), moment, asked_s)


def row(trace: str, name: str, fleets: Sequence[Fleet], slo_s: float) -> dict[str, Any]:
    ttft_s = sorted(each for fleet in fleets for each in fleet.ttft_s.values())
    cold = sorted(fleet.ttft_s[each] for fleet in fleets for each in fleet.cold)
    return {
        "trace": trace,
        "rule": name,
        "requests": len(ttft_s),
        "replica_hours": round(sum(fleet.paid_s for fleet in fleets) / 3600, 2),
        "most": max(fleet.most for fleet in fleets),
        "starts": sum(fleet.starts for fleet in fleets),
        "late_percent": round(100 * sum(each > slo_s for each in ttft_s) / len(ttft_s), 2),
        "ttft_p50_s": round(ttft_s[len(ttft_s) // 2], 2),
        "ttft_p95_s": round(ttft_s[int(len(ttft_s) * 0.95)], 2),
        "ttft_p99_s": round(ttft_s[int(len(ttft_s) * 0.99)], 2),
        "cold": len(cold),
        "cold_p50_s": round(cold[len(cold) // 2], 2) if cold else None,
        "cold_worst_s": round(cold[-1], 2) if cold else None,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--start", type=float, default=20.0, metavar="S", help="until a new replica answers [20]")
    options.add_argument("--wake", type=float, default=6.0, metavar="S", help="until a stopped one does [6]")
    options.add_argument("--slo", type=float, default=2.0, metavar="S", help="later is a first token late [2]")
    options.add_argument(
        "--per-replica", type=int, default=AT_ONCE, metavar="N", help="requests given to each at once; 0: all [80]"
    )
    options.add_argument("--seeds", type=int, default=3, metavar="N", help="so many sequences of requests [3]")
    options.add_argument("--json", action="store_true", help="a line of JSON for each row")
    given = options.parse_args()
    shown = False
    for trace in TRACES:
        least = 0 if trace == "seldom" else 1
        for name in rules(least, given.start):
            first = {"fixed-2": 2, "fixed-8": MOST}.get(name, 1)
            fleets = [
                run(
                    trace,
                    rules(least, given.start)[name],
                    first,
                    seed,
                    given.start,
                    given.wake,
                    given.per_replica or None,
                )
                for seed in range(given.seeds)
            ]
            found = row(trace, name, fleets, given.slo)
            if given.json:
                print(json.dumps(found), flush=True)
                continue
            if not shown:
                print("  ".join(f"{key:>{max(8, len(key))}}" for key in found))
                shown = True
            told = (f"{'-' if value is None else value:>{max(8, len(key))}}" for key, value in found.items())
            print("  ".join(told), flush=True)


if __name__ == "__main__":
    main()
