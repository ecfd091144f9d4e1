"""Ask engines each second how much they have to do: others may ask them too, and their queues are not ours to count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp

from skerry.engines.contract import Metrics
from skerry.gateway.services.exposed import adapters, cache_blocks, share, total
from skerry.gateway.services.registry import Registry
from skerry.gateway.services.replica import Replica
from skerry.model.service import EngineName

EACH_S = 1.0
ANSWER_S_MAX = 1.0
AT_ONCE_MAX = 32
BYTES_MAX = 4 * 1024**2


class Lookout:
    def __init__(self, registry: Registry, metrics_of: Callable[[EngineName], Metrics]) -> None:
        self._registry = registry
        self._metrics_of = metrics_of
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
            self._ask(replica, metrics)
            for service in self._registry.all()
            if len(service.replicas) > 1 and (metrics := self._metrics_of(service.route.engine)).path
            for replica in service.replicas.values()
            if not replica.route.asleep
        ]
        await asyncio.gather(*looks)

    async def _ask(self, replica: Replica, metrics: Metrics) -> None:
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
        candidate.cache_use = share(text, metrics.cache_use)
        candidate.cache_blocks = cache_blocks(text, metrics.cache_config) or candidate.cache_blocks
        candidate.adapters = adapters(text, metrics.adapters)


async def _read(content: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > BYTES_MAX:
            break
        parts.append(part)
    return b"".join(parts)
