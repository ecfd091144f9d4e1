"""What gateways have said of the traffic of services lately, to this control program or to another one of the same
database, and agents of how busy replicas are. In memory: all of it is said anew each second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from skerry.clock import Clock
from skerry.control.reconcile.services.asked import Moment, Seen
from skerry.control.route_feed import LOOK_EVERY_S
from skerry.model.sandbox import Sandbox
from skerry.model.service import Signals
from skerry.model.traffic import ServiceTraffic, TrafficReport

LATE_S = 3.0
"""A gateway that has not reported for so long may be serving all the same."""
SILENT_S = 5.0
"""A gateway that has not reported for so long is gone, or serves nobody that we know of."""
SILENT_WITH_OTHERS_S = 15.0
"""The same where it may be the control program that it talks to which is being started again."""
MARGIN_S = 1.0
"""Between word that a replica drains and the report that can be believed about it."""
MARGIN_WITH_OTHERS_S = MARGIN_S + LOOK_EVERY_S
"""The same where the gateway may hear it from another control program, which looks so often for what others wrote."""
RECENT_S = 5.0
SHUFFLED_S = 10.0
KEPT_S = 3900.0
"""As long as the longest window of an autoscaler, and a little."""
KEPT_MAX = 4000
SAMPLES_MAX = 1000


@dataclass
class _Gateway:
    at: datetime
    replicas: dict[str, int] = field(default_factory=dict[str, int])
    services: dict[str, ServiceTraffic] = field(default_factory=dict[str, ServiceTraffic])


class TrafficBook:
    def __init__(self, clock: Clock, *, has_others: bool = False) -> None:
        """`has_others`: there may be more control programs, with gateways of theirs."""
        self._clock = clock
        self._margin_s = MARGIN_WITH_OTHERS_S if has_others else MARGIN_S
        self._silent_s = SILENT_WITH_OTHERS_S if has_others else SILENT_S
        self._since = clock.now()
        self._gateways: dict[str, _Gateway] = {}
        self._history: dict[str, deque[Moment]] = {}
        self._seen: dict[str, deque[Seen]] = {}
        self._unseen: dict[str, dict[str, str]] = {}
        self._wanted_at: dict[str, datetime] = {}
        self._asked_at: dict[str, datetime] = {}
        self._listeners: list[Callable[[TrafficReport], None]] = []

    @property
    def since(self) -> datetime:
        """Nothing is known of the time before."""
        return self._since

    def listen(self, listener: Callable[[TrafficReport], None]) -> None:
        self._listeners.append(listener)

    def note(self, report: TrafficReport, at: datetime | None = None) -> None:
        """`at`: when it was told, if not now."""
        now = self._clock.now() if at is None else at
        gateway = _Gateway(now)
        for each in report.services:
            gateway.replicas |= each.replicas
            gateway.services[each.service] = each
            if each.requests or each.in_flight or each.waiting or each.wanted:
                self._asked_at[each.service] = max(now, self._asked_at.get(each.service, now))
            if each.wanted:
                self._wanted_at[each.service] = max(now, self._wanted_at.get(each.service, now))
            self._remember(each, report.seconds, now)
            for key, total in each.seen.items():
                self.saw(each.service, key, total, now)
        before = self._gateways.get(report.gateway)
        if before is None or before.at <= now:
            self._gateways[report.gateway] = gateway
        self._forget(self._clock.now())
        for listener in self._listeners:
            listener(report)

    def _remember(self, told: ServiceTraffic, seconds: float, now: datetime) -> None:
        history = self._history.setdefault(told.service, deque(maxlen=KEPT_MAX))
        history.append(
            Moment(
                at_s=now.timestamp(),
                seconds=seconds,
                in_flight=told.in_flight,
                waiting=told.waiting,
                arrived=told.arrived,
                requests=told.requests,
                errors=told.errors,
                tokens=told.completion_tokens,
                ttft_s=tuple(told.ttft_s[:SAMPLES_MAX]),
                tpot_s=tuple(told.tpot_s[:SAMPLES_MAX]),
            )
        )
        while history and history[0].at_s < now.timestamp() - KEPT_S:
            history.popleft()

    def saw(self, service: str, key: str, total: float, at: datetime | None = None) -> None:
        """Over all replicas of a service, of what one of its targets is compared with. `at`: if not now."""
        now_s = (at or self._clock.now()).timestamp()
        seen = self._seen.setdefault(service, deque(maxlen=KEPT_MAX))
        seen.append(Seen(now_s, key, total))
        while seen and seen[0].at_s < now_s - KEPT_S:
            seen.popleft()
        self._unseen.get(service, {}).pop(key, None)

    def does_not_see(self, service: str, key: str, why: str) -> None:
        self._unseen.setdefault(service, {})[key] = why

    def seen(self, service: str, last_s: float) -> list[Seen]:
        """Of all keys."""
        return _last(self._seen.get(service), self._clock.now().timestamp() - last_s)

    def unseen(self, service: str) -> dict[str, str]:
        """Key -> why nothing is known of it, where somebody said so."""
        return dict(self._unseen.get(service, {}))

    def _forget(self, now: datetime) -> None:
        gone = [name for name, each in self._gateways.items() if _passed_s(each.at, now) > self._silent_s]
        for name in gone:
            del self._gateways[name]

    def _present(self) -> Iterable[_Gateway]:
        now = self._clock.now()
        return [each for each in self._gateways.values() if _passed_s(each.at, now) <= self._silent_s]

    def in_flight(self) -> dict[str, int]:
        """By replica, over all gateways."""
        found: dict[str, int] = {}
        for gateway in self._present():
            for replica, count in gateway.replicas.items():
                found[replica] = found.get(replica, 0) + count
        return found

    def is_idle(self, box: Sandbox) -> bool:
        """Whether nothing is under way at a replica that drains, nor will be. While nobody tells, that is not so: a
        gateway that cannot reach us serves on."""
        replica = box.replica
        if replica is None or replica.draining_at is None:
            return False
        known_since = replica.draining_at + timedelta(seconds=self._margin_s)
        present = list(self._present())
        if not present:
            return self._clock.now() > max(known_since, self._since) + timedelta(seconds=self._silent_s)
        return all(each.at > known_since and not each.replicas.get(box.id) for each in present)

    def wanted_at(self, service: str) -> datetime | None:
        """When somebody was last held because there is no replica."""
        return self._wanted_at.get(service)

    def asked_at(self, service: str) -> datetime | None:
        """When it last had any request."""
        return self._asked_at.get(service)

    def history(self, service: str, last_s: float) -> list[Moment]:
        """Several gateways each have their own."""
        return _last(self._history.get(service), self._clock.now().timestamp() - last_s)

    def gateways(self) -> int:
        return len(list(self._present()))

    def hears_all(self) -> bool:
        """Whether each of them has told of the last seconds, so that silence about a service can be believed."""
        now = self._clock.now()
        return all(_passed_s(each.at, now) <= LATE_S for each in self._present())

    def signals(self, service: str) -> Signals | None:
        """Of the last seconds. None: nothing is known."""
        told = [each.services[service] for each in self._present() if service in each.services]
        recent = self.history(service, RECENT_S)
        if not told and not recent:
            return None
        ttft = sorted(sample for each in recent for sample in each.ttft_s)
        tpot = sorted(sample for each in recent for sample in each.tpot_s)
        return Signals(
            in_flight=sum(each.in_flight for each in told),
            waiting=sum(each.waiting for each in told),
            requests_per_s=round(sum(each.requests for each in recent) / RECENT_S, 3),
            tokens_per_s=round(sum(each.tokens for each in recent) / RECENT_S, 3),
            ttft_p50_s=_quantile(ttft, 0.5),
            ttft_p95_s=_quantile(ttft, 0.95),
            ttft_p99_s=_quantile(ttft, 0.99),
            tpot_p95_s=_quantile(tpot, 0.95),
            cache_use=max((each.cache_use for each in told if each.cache_use is not None), default=None),
            errors_per_s=round(sum(each.errors for each in recent) / RECENT_S, 3),
        )

    def drop(self, services: Mapping[str, object]) -> None:
        """Forget all but these."""
        for kept in (self._history, self._seen, self._unseen, self._wanted_at, self._asked_at):
            for service in [each for each in kept if each not in services]:
                del kept[service]


T = TypeVar("T", Moment, Seen)


def _last(kept: deque[T] | None, since_s: float) -> list[T]:
    """Oldest first, and not all of an hour: each service is decided on each second. Those of other control programs
    come a little later than ours."""
    found: list[T] = []
    for each in reversed(kept or ()):
        if each.at_s < since_s - SHUFFLED_S:
            break
        if each.at_s > since_s:
            found.append(each)
    return found[::-1]


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def _passed_s(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
