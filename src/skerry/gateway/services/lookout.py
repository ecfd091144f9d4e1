"""Ask engines each second how much they have to do: others may ask them too, and their queues are not ours to count.

What an autoscaler goes by of what they tell is kept beside it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import aiohttp

from skerry.engines.contract import Metrics
from skerry.gateway.services.exposed import adapters, cache_blocks, is_counter, share, total
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.replica import Replica
from skerry.gateway.services.service import Service
from skerry.model.scaling import CUSTOM_PREFIX, Signal
from skerry.model.service import EngineName

EACH_S = 1.0
ANSWER_S_MAX = 1.0
AT_ONCE_MAX = 32
BYTES_MAX = 4 * 1024**2
METRICS_PATH = "/metrics"
"""Of a program that nobody has described, where a metric of it is watched."""


class Lookout:
    def __init__(
        self, registry: Registry, metrics_of: Callable[[EngineName], Metrics], monotonic_s: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._metrics_of = metrics_of
        self._monotonic_s = monotonic_s
        self._session: aiohttp.ClientSession | None = None
        self._asking = asyncio.Semaphore(AT_ONCE_MAX)

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EACH_S)
            await self.look()

    async def look(self) -> None:
        looks = [
            self._ask(replica, metrics, service.route.watched)
            for service in self._registry.all()
            if (metrics := self._asked_of(service)) is not None
            for replica in service.replicas.values()
            if not replica.route.asleep
        ]
        await asyncio.gather(*looks)

    def _asked_of(self, service: Service) -> Metrics | None:
        """None: nobody would tell."""
        metrics = self._metrics_of(service.route.engine)
        if any(key.startswith(CUSTOM_PREFIX) for key in service.route.watched):
            return replace(metrics, path=metrics.path or METRICS_PATH)
        return metrics if metrics.path else None

    async def _ask(self, replica: Replica, metrics: Metrics, watched: Sequence[str]) -> None:
        assert self._session is not None
        candidate = replica.candidate
        text = b""
        try:
            async with (
                self._asking,
                self._session.get(f"http://{replica.host}:{replica.port}{metrics.path}") as answer,
            ):
                if answer.status == 200:
                    text = await _read(answer.content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            pass  # what it does not say is not known; that it does not answer is found by requests
        candidate.running = int(total(text, metrics.running))
        candidate.waiting = int(total(text, metrics.waiting))
        replica.cache_use = share(text, metrics.cache_use)
        candidate.cache_use = replica.cache_use or 0.0
        candidate.cache_blocks = cache_blocks(text, metrics.cache_config) or candidate.cache_blocks
        candidate.adapters = adapters(text, metrics.adapters)
        now_s = self._monotonic_s()
        told = {key: _told(replica, text, key, metrics, now_s) for key in watched}
        replica.seen = {key: value for key, value in told.items() if value is not None and math.isfinite(value)}


def _told(replica: Replica, text: bytes, key: str, metrics: Metrics, now_s: float) -> float | None:
    if key == Signal.CACHE.value:
        return share(text, metrics.cache_use)
    name = metrics.waiting if key == Signal.QUEUE.value else key.removeprefix(CUSTOM_PREFIX)
    if share(text, name) is None:
        return None
    value = total(text, name)
    if not is_counter(text, name):
        return value
    before = replica.counters.get(key)
    replica.counters[key] = (now_s, value)
    if before is None or value < before[1] or now_s <= before[0]:  # it began anew
        return None
    return (value - before[1]) / (now_s - before[0])


async def _read(content: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > BYTES_MAX:
            break
        parts.append(part)
    return b"".join(parts)
