"""What is counted of requests: for metrics, for control's autoscaler each second, and for who is metered.

Counted as each request ends, in plain numbers: it costs two microseconds, and the log's line one more.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime
from typing import TYPE_CHECKING

from skerry.gateway.services.usage import Used
from skerry.model.token import Metered
from skerry.model.traffic import ServiceTraffic

if TYPE_CHECKING:
    from skerry.gateway.services.call import Call
    from skerry.gateway.services.service import Service

# The bounds that OpenTelemetry's conventions for generative AI advise.
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EACH_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
WHOLE_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
SAMPLES_MAX = 200
"""Of times, in one report."""
METERED_MAX = 10_000
"""Kept for control while it is down: (service, model, client) at one time. Beyond it what is newest is not metered."""


class Histogram:
    __slots__ = ("bounds", "count", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value


class Counts:
    """Of one service since we started, and since the last report."""

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.first = Histogram(FIRST_S)
        self.each = Histogram(EACH_S)
        self.whole = Histogram(WHOLE_S)
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.retries = 0
        self._there = 0
        """In flight or waiting when it was reported last."""
        self.fresh()

    def fresh(self) -> None:
        self.new_requests = self.new_errors = self.new_prompt = self.new_completion = 0
        self.first_s: list[float] = []
        self.each_s: list[float] = []

    def passed(self, status: int, took_s: float) -> None:
        """A request of plain HTTP; 0: it got no answer."""
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.new_requests += 1
        self.whole.add(took_s)
        if status >= 500 or status == 0:
            self.new_errors += 1

    def traffic(self, service: Service) -> ServiceTraffic:
        """What there is to report, which begins anew."""
        there = service.in_flight + service.waiting
        arrived, self._there = max(0, self.new_requests + there - self._there), there
        told = ServiceTraffic(
            service=service.route.id,
            in_flight=service.in_flight,
            waiting=service.waiting,
            arrived=arrived,
            requests=self.new_requests,
            errors=self.new_errors,
            prompt_tokens=self.new_prompt,
            completion_tokens=self.new_completion,
            ttft_s=self.first_s,
            tpot_s=self.each_s,
            wanted=service.wanted,
            replicas=service.at_replicas(),
            cache_use=service.cache_use(),
            seen=service.seen(),
        )
        self.fresh()
        return told


class _Use:
    __slots__ = ("cached", "completion", "errors", "prompt", "requests", "seconds")

    def __init__(self) -> None:
        self.requests = self.errors = self.prompt = self.cached = self.completion = 0
        self.seconds = 0.0


class Meter:
    def __init__(self) -> None:
        self._uses: dict[tuple[str, str, str], _Use] = {}
        self._spent: dict[str, int] = {}

    def ended(self, call: Call, service: Service, used: Used, now_s: float) -> None:
        counts = service.counts
        status = call.status
        failed = status >= 500 or status == 0
        counts.by_status[status] = counts.by_status.get(status, 0) + 1
        counts.new_requests += 1
        took_s = now_s - call.began_s
        counts.whole.add(took_s)
        if failed:
            counts.new_errors += 1
        if call.first_s:
            first_s = call.first_s - call.began_s
            counts.first.add(first_s)
            counts.prompt_tokens += used.prompt
            counts.cached_tokens += used.cached
            counts.completion_tokens += used.completion
            counts.new_prompt += used.prompt
            counts.new_completion += used.completion
            if len(counts.first_s) < SAMPLES_MAX:
                counts.first_s.append(first_s)
            if used.completion > 1 and call.streamed:
                each_s = (now_s - call.first_s) / (used.completion - 1)
                counts.each.add(each_s)
                if len(counts.each_s) < SAMPLES_MAX:
                    counts.each_s.append(each_s)
        access = call.access
        if not call.first_s and not failed:
            return  # refused here: nothing was used
        if access is not None:
            self._spent[access.id] = self._spent.get(access.id, 0) + used.prompt + used.completion
        whose = (service.route.id, call.model, access.client if access is not None else "")
        use = self._uses.get(whose)
        if use is None:
            if len(self._uses) >= METERED_MAX:
                return
            use = self._uses[whose] = _Use()
        use.requests += 1
        use.errors += failed
        use.prompt += used.prompt
        use.cached += used.cached
        use.completion += used.completion
        use.seconds += took_s

    def take_spent(self) -> dict[str, int]:
        """Tokens since the last time, by id of the token or key."""
        spent, self._spent = self._spent, {}
        return {client: count for client, count in spent.items() if count}

    def take(self, now: datetime) -> list[Metered]:
        """What was used since the last time."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        uses, self._uses = self._uses, {}
        return [
            Metered(
                service=service,
                model=model,
                client=client,
                hour=hour,
                requests=use.requests,
                errors=use.errors,
                prompt_tokens=use.prompt,
                cached_tokens=use.cached,
                completion_tokens=use.completion,
                seconds=use.seconds,
            )
            for (service, model, client), use in uses.items()
        ]
