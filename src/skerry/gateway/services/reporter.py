"""Tell control each second how much is asked of services, and what was used, until it has been heard."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from skerry.errors import Unavailable
from skerry.gateway.services.meter import Meter
from skerry.gateway.services.registry import Registry
from skerry.model.traffic import TrafficReport, UsageReport

EACH_S = 1.0
USAGE_EVERY = 5
"""Reports of traffic to one of usage."""
LAST_S_MAX = 300.0
"""For one that ends while control is down."""
KEPT_MAX = 720
"""Reports of usage that control has not heard: an hour of them. Then the next one grows instead."""


class Control(Protocol):
    async def hear_traffic(self, report: TrafficReport) -> None: ...
    async def hear_usage(self, report: UsageReport) -> None: ...


class Reporter:
    def __init__(
        self,
        control: Control,
        registry: Registry,
        meter: Meter,
        monotonic_s: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self.gateway = secrets.token_hex(8)
        self._control = control
        self._registry = registry
        self._meter = meter
        self._monotonic_s = monotonic_s
        self._now = now
        self.on_heard: Callable[[dict[str, int]], None] = lambda _: None
        """Told what control knows now of what was spent."""
        self._unheard: deque[UsageReport] = deque()
        self._number = 0
        self._urgent = asyncio.Event()
        self._told_s = monotonic_s()

    def hurry(self, _: object = None) -> None:
        """Somebody waits for a service that is at zero."""
        self._urgent.set()

    async def run(self) -> None:
        """Until cancelled."""
        turn = 0
        while True:
            try:
                async with asyncio.timeout(EACH_S):
                    await self._urgent.wait()
            except TimeoutError:
                turn += 1
            self._urgent.clear()
            await self._traffic()
            if turn >= USAGE_EVERY:
                turn = 0
                await self.usage()

    async def _traffic(self) -> None:
        now_s = self._monotonic_s()
        services = [each.counts.traffic(each) for each in self._registry.all()]
        report = TrafficReport(gateway=self.gateway, seconds=now_s - self._told_s, services=services)
        self._told_s = now_s
        try:
            await self._control.hear_traffic(report)
        except Unavailable:
            pass  # the next one is as good

    async def end(self, hurried: asyncio.Event) -> None:
        """The last of it: nobody else knows what we counted, so unless we are hurried it is told again and again."""
        await self.usage()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S_MAX):
                while self._unheard and not hurried.is_set():
                    await asyncio.sleep(EACH_S)
                    await self.usage()

    async def usage(self) -> None:
        """What was used, and what was not heard before, in order."""
        if len(self._unheard) < KEPT_MAX:
            metered = self._meter.take(self._now())
            if metered:
                self._number += 1
                spent = self._meter.take_spent()
                self._unheard.append(
                    UsageReport(gateway=self.gateway, number=self._number, metered=metered, spent=spent)
                )
        try:
            while self._unheard:
                await self._control.hear_usage(self._unheard[0])
                self.on_heard(self._unheard.popleft().spent)
        except Unavailable:
            pass
